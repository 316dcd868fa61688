// Package kubelet stands in for the kubelets of all nodes: it registers the nodes and keeps them alive, and leads each
// Pod through its life. Containers are toys that listen on the Pod's addresses.
package kubelet

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"podline.io/kubelab/internal/mirror"
	"podline.io/kubelab/internal/nodeports"
	"podline.io/kubelab/internal/plan"
)

type kubelet struct {
	config    *rest.Config
	maxPods   int
	nodeGrace time.Duration
	endpoint  *endpoint

	mu      sync.Mutex
	nodes   map[string]*node
	workers map[types.UID]*worker
	pods    *mirror.Mirror[*v1.Pod]
	begun   bool // workers may act
}

// Main is the command "kubelet". It returns the exit status.
func Main(args []string) int {
	flags := flag.NewFlagSet("kubelab kubelet", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	socket := flags.String("socket", "", "where to listen for commands")
	nodes := flags.Int("nodes", 3, "number of nodes")
	maxPods := flags.Int("max-pods", plan.DefaultMaxPods, "Pods that each node takes")
	nodeGrace := flags.Duration("node-grace", 40*time.Second, "how long a silent node is taken for alive")
	certificate := flags.String("tls-cert-file", "", "certificate of the kubelets' HTTPS endpoint")
	key := flags.String("tls-private-key-file", "", "its key")
	callers := flags.String("client-ca-file", "", "CA of those who may call it")
	_ = flags.Parse(args)
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)

	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	var served *endpoint
	if err == nil {
		served, err = newEndpoint(*certificate, *key, *callers)
	}
	if err == nil {
		config.QPS = -1
		config.ContentType = "application/vnd.kubernetes.protobuf"
		config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
		k := &kubelet{
			config:    config,
			maxPods:   *maxPods,
			nodeGrace: *nodeGrace,
			endpoint:  served,
			nodes:     map[string]*node{},
			workers:   map[types.UID]*worker{},
		}
		err = k.run(*nodes, *socket)
	}
	log.Print(err)
	return 1
}

func (k *kubelet) run(nodes int, socket string) error {
	client, err := kubernetes.NewForConfig(k.config)
	if err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	ctx := context.Background()
	ports := nodeports.Start(ctx, client)
	failures := make(chan error, nodes)
	for n := 1; n <= nodes; n++ {
		go func() {
			_, err := k.join(plan.Name(n))
			failures <- err
		}()
	}
	for range nodes {
		if err := <-failures; err != nil {
			return err
		}
	}
	if err := k.rejoin(ctx, client); err != nil {
		return err
	}
	// No Pod gets an address before every Pod that has one is known.
	k.pods = mirror.Start(ctx, client.CoreV1().RESTClient(), "pods", &v1.Pod{}, k.change)
	if err := k.pods.Wait(ctx); err != nil {
		return err
	}
	k.begin()
	for _, n := range k.nodes {
		if err := k.expose(n); err != nil {
			return err
		}
	}
	go ports.Run(ctx)
	return k.serve(socket)
}

// join registers a node and starts its heartbeats.
func (k *kubelet) join(name string) (*node, error) {
	place, err := plan.Parse(name, k.maxPods)
	if err != nil {
		return nil, err
	}
	config := rest.CopyConfig(k.config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:node:" + name,
		Groups:   []string{"system:nodes", "system:authenticated"},
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	n := &node{
		Node:      place,
		client:    client,
		addresses: newAddresses(place),
		maxPods:   k.maxPods,
		every:     min(10*time.Second, k.nodeGrace/4),
		up:        make(chan struct{}),
	}
	close(n.up)
	// Right after the API server's start its own roles for nodes may not be there yet.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err = n.register(); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	go n.beat()
	k.mu.Lock()
	k.nodes[name] = n
	k.mu.Unlock()
	if k.pods == nil {
		return n, nil // run goes on
	}
	if err := k.expose(n); err != nil {
		return nil, err
	}
	for _, pod := range k.pods.List() {
		if pod.Spec.NodeName == name {
			k.see(pod)
		}
	}
	return n, nil
}

// rejoin takes over nodes that were added in an earlier life of this process.
func (k *kubelet) rejoin(ctx context.Context, client kubernetes.Interface) error {
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, node := range list.Items {
		if k.node(node.Name) == nil && node.Spec.ProviderID == providerID(node.Name) {
			if _, err := k.join(node.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *kubelet) node(name string) *node {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nodes[name]
}
