package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"

	"podline.io/kubelab/internal/toy"
)

// Port is where every node's kubelet listens, as the node's status says.
const Port = 10250

const (
	dialPatience   = 5 * time.Second
	streamPatience = 30 * time.Second
	// An idle connection is the test's own affair.
	idlePatience = time.Hour
)

// endpoint is what nodes need for their kubelets' HTTPS endpoints: a certificate for all of their addresses, and who may
// call.
type endpoint struct {
	config *tls.Config
}

// newEndpoint reads a certificate, its key, and the CA of callers; without files there is no endpoint.
func newEndpoint(certificate, key, ca string) (*endpoint, error) {
	if certificate == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	callers := x509.NewCertPool()
	if !callers.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	return &endpoint{config: &tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientCAs:    callers,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		// As the kubelet's: the streams are upgraded connections.
		NextProtos: []string{"http/1.1"},
	}}, nil
}

// expose serves the endpoint of a node, for ever.
func (k *kubelet) expose(n *node) error {
	if k.endpoint == nil {
		return nil
	}
	config := toy.Config()
	listener, err := config.Listen(context.Background(), "tcp", netip.AddrPortFrom(n.V4, Port).String())
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	forward := func(w http.ResponseWriter, r *http.Request) { k.forward(n, w, r) }
	mux.HandleFunc("/portForward/{namespace}/{pod}", forward)
	mux.HandleFunc("/portForward/{namespace}/{pod}/{uid}", forward)
	server := http.Server{Handler: mux}
	go func() {
		err := server.Serve(tls.NewListener(listener, k.endpoint.config))
		log.Printf("%s: endpoint: %v", n.Name, err)
	}()
	return nil
}

// forward connects ports of a Pod with the caller.
func (k *kubelet) forward(n *node, w http.ResponseWriter, r *http.Request) {
	if !n.isUp() {
		panic(http.ErrAbortHandler)
	}
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pod := k.pod(n, r.PathValue("namespace"), r.PathValue("pod"))
	if uid := r.PathValue("uid"); pod == nil || uid != "" && uid != string(pod.UID) {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return
	}
	portforward.ServePortForward(w, r, target{k: k, node: n, pod: pod}, pod.Name, string(pod.UID), options,
		idlePatience, streamPatience, portforward.SupportedProtocols)
}

// pod finds a Pod of a node by its name.
func (k *kubelet) pod(n *node, namespace, name string) *v1.Pod {
	for _, pod := range k.pods.List() {
		if pod.Spec.NodeName == n.Name && pod.Namespace == namespace && pod.Name == name {
			return pod
		}
	}
	return nil
}

// target is the Pod that is connected to.
type target struct {
	k    *kubelet
	node *node
	pod  *v1.Pod
}

// PortForward copies until both sides have ended.
func (t target) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	address, err := forwardTo(t.pod)
	if err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: dialPatience}
	connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	defer connection.Close()
	go func() {
		_, _ = io.Copy(connection, stream)
		_ = connection.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, connection)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// forwardTo is the address where a Pod's ports are.
func forwardTo(pod *v1.Pod) (string, error) {
	if pod.Status.Phase != v1.PodRunning {
		return "", fmt.Errorf("the Pod is %s", pod.Status.Phase)
	}
	if address := pod.Annotations[forwardAddress]; address != "" {
		return address, nil
	}
	if pod.Status.PodIP == "" {
		return "", errors.New("the Pod has no address")
	}
	return pod.Status.PodIP, nil
}
