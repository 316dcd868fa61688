// What a test asks of etcd directly.
package up

import (
	"context"
	"fmt"
	"io"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/grpclog"
)

// compact drops all history before the newest revision, and returns that revision.
func compact() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// Closed, the client would say on standard error that its connection was cut.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{etcdURL},
		DialTimeout: 5 * time.Second,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		return "", err
	}
	defer client.Close()
	answer, err := client.Get(ctx, "compact_rev_key")
	if err != nil {
		return "", err
	}
	revision := answer.Header.Revision
	if _, err := client.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		return "", err
	}
	return fmt.Sprint(revision), nil
}
