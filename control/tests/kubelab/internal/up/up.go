// Package up runs a lab: it starts the components, waits until the cluster works, obeys the control socket, and stops
// everything in the right order.
package up

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"

	"podline.io/kubelab/internal/plan"
	"podline.io/kubelab/internal/rtnl"
)

// Main is the command "up". It returns the exit status.
func Main(args []string) int {
	o, err := parse(args)
	if err == nil {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubelab:", err)
		return 1
	}
	return 0
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("kubelab up", flag.ExitOnError)
	flags.StringVar(&o.dir, "dir", "", "where everything is kept; made if missing, and must hold no other lab's data")
	flags.IntVar(&o.nodes, "nodes", 3, "number of nodes")
	flags.TextVar(&o.advertise, "advertise", netip.MustParseAddr("127.0.0.1"), "a second address that the API server's certificate is valid for")
	flags.IntVar(&o.maxPods, "max-pods", plan.DefaultMaxPods, "Pods that each node takes")
	flags.DurationVar(&o.nodeGrace, "node-grace", 40*time.Second, "how long a silent node is taken for alive")
	flags.IntVar(&o.verbosity, "verbosity", 0, "how much Kubernetes' components log")
	flags.BoolVar(&o.untilEOF, "until-eof", false, "stop when standard input ends, too")
	_ = flags.Parse(args)
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	case o.dir == "":
		return o, errors.New("--dir is missing")
	case o.nodeGrace < time.Second:
		return o, errors.New("--node-grace is less than a second")
	}
	if _, err := plan.New(max(o.nodes, 1), o.maxPods); err != nil {
		return o, err
	}
	var err error
	o.dir, err = filepath.Abs(o.dir)
	return o, err
}

func run(o options) error {
	began := time.Now()
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	eof := make(chan struct{})
	if o.untilEOF {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			close(eof)
		}()
	}
	if _, err := os.Stat(filepath.Join(o.dir, Etcd)); err == nil {
		return fmt.Errorf("%s holds another lab's data", o.dir)
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	if err := addresses(o); err != nil {
		return err
	}
	l, err := newLab(o)
	if err != nil {
		return err
	}
	defer l.stop()

	started := make(chan error, 1)
	go func() {
		err := l.start()
		if err == nil {
			err = l.serveControl()
		}
		started <- err
	}()
	for {
		select {
		case err := <-started:
			if err != nil {
				return err
			}
			fmt.Printf("ready %.1f\n", time.Since(began).Seconds())
			started = nil
		case what := <-l.died:
			return errors.New(what + "\n" + l.lastLines(strings.Fields(what)[0], 20))
		case <-stop:
			return nil
		case <-eof:
			return nil
		}
	}
}

// addresses makes the addresses of nodes and Pods this host's own.
func addresses(o options) error {
	if err := rtnl.Loopback(); err != nil {
		return err
	}
	for _, p := range plan.PodRanges {
		if err := rtnl.Local(p); err != nil {
			return err
		}
	}
	for n := 1; n <= o.nodes; n++ {
		node, err := plan.New(n, o.maxPods)
		if err != nil {
			return err
		}
		if err := local(node); err != nil {
			return err
		}
	}
	return nil
}

func local(node plan.Node) error {
	for _, a := range []netip.Addr{node.V4, node.V6} {
		if err := rtnl.Local(netip.PrefixFrom(a, a.BitLen())); err != nil {
			return err
		}
	}
	return nil
}

// start starts the components and returns when the cluster works.
func (l *lab) start() error {
	for _, name := range l.order {
		p := l.components[name]
		if err := p.spawn(); err != nil {
			return err
		}
		if name == Etcd || name == APIServer {
			if err := p.waitReady(startPatience); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	for _, name := range l.order {
		if err := l.components[name].waitReady(startPatience); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	deadline := time.Now().Add(startPatience)
	for {
		err := l.nodesServe()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stop ends everything, the last first: etcd goes when nobody needs it any more. Nothing that they would still write is
// of use, so none is asked politely.
func (l *lab) stop() {
	for _, name := range slices.Backward(l.order) {
		l.components[name].end(false)
	}
}

// lastLines returns the end of a component's log.
func (l *lab) lastLines(name string, count int) string {
	text, err := os.ReadFile(l.path("log/" + name + ".log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}

// tainted tells whether a node still has the taint that it starts with.
func tainted(node *v1.Node) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Key == v1.TaintNodeNotReady {
			return true
		}
	}
	return false
}
