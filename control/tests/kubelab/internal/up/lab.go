// A lab: the components of one control plane, what they are started with, and how each shows that it serves.
package up

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"podline.io/kubelab/internal/plan"
)

const (
	apiPort  = 6443
	etcdURL  = "http://127.0.0.1:2379"
	peerURL  = "http://127.0.0.1:2380"
	issuer   = "https://kubernetes.default.svc.cluster.local"
	apiURL   = "https://127.0.0.1:6443"
	kcmURL   = "https://127.0.0.1:10257"
	schedURL = "https://127.0.0.1:10259"
)

type options struct {
	dir       string
	nodes     int
	advertise netip.Addr
	maxPods   int
	nodeGrace time.Duration
	verbosity int
	untilEOF  bool
}

type lab struct {
	options
	died       chan string
	components map[string]*process
	order      []string
	client     *kubernetes.Clientset
	http       *http.Client
}

// newLab writes certificates and kubeconfigs and knows how to start every component; it starts none.
func newLab(o options) (*lab, error) {
	l := &lab{options: o, died: make(chan string, 16), components: map[string]*process{}}
	ca, err := newAuthority(l.path("pki"))
	if err != nil {
		return nil, err
	}
	addresses := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.ParseIP("10.96.0.1"), net.ParseIP("fd00:10:96::1")}
	if !o.advertise.IsLoopback() {
		addresses = append(addresses, o.advertise.AsSlice())
	}
	serving, err := ca.server("apiserver", []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}, addresses)
	if err != nil {
		return nil, err
	}
	var kubelets []net.IP
	for n := 1; n <= plan.MaxNodes; n++ {
		v4, v6 := plan.Addresses(n)
		kubelets = append(kubelets, v4.AsSlice(), v6.AsSlice())
	}
	kubeletServing, err := ca.server("kubelet", nil, kubelets)
	if err != nil {
		return nil, err
	}
	kubeletCaller, err := ca.client("apiserver-kubelet", "kube-apiserver-kubelet-client")
	if err != nil {
		return nil, err
	}
	tokenKey, tokenPublic, err := ca.keys("serviceaccount")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(l.path("ca.crt"), ca.pem, 0o644); err != nil {
		return nil, err
	}
	admin, err := ca.client("admin", "kubelab", "system:masters")
	if err != nil {
		return nil, err
	}
	for file, user := range map[string]string{
		"kubeconfig":                        "",
		"pki/" + ControllerManager + ".cfg": "system:kube-controller-manager",
		"pki/" + Scheduler + ".cfg":         "system:kube-scheduler",
	} {
		who := admin
		if user != "" {
			if who, err = ca.client(strings.TrimPrefix(user, "system:"), user); err != nil {
				return nil, err
			}
		}
		if err := writeKubeconfig(l.path(file), apiURL, ca.pem, who); err != nil {
			return nil, err
		}
	}
	if err := l.connect(ca.pem, admin); err != nil {
		return nil, err
	}
	bind := "0.0.0.0"
	if o.advertise.Is6() {
		bind = "::"
	}

	l.add(Etcd, l.etcdServes,
		"--name=kubelab",
		"--data-dir="+l.path("etcd"),
		"--listen-client-urls="+etcdURL,
		"--advertise-client-urls="+etcdURL,
		"--listen-peer-urls="+peerURL,
		"--initial-advertise-peer-urls="+peerURL,
		"--initial-cluster=kubelab="+peerURL,
		"--unsafe-no-fsync",
		// It elects itself: the sooner the better.
		"--heartbeat-interval=10",
		"--election-timeout=100",
		"--log-level=warn",
	)
	l.add(APIServer, func() error { return l.get(apiURL + "/readyz") },
		"--etcd-servers="+etcdURL,
		"--bind-address="+bind,
		"--secure-port="+strconv.Itoa(apiPort),
		"--advertise-address="+o.advertise.String(),
		"--tls-cert-file="+serving.certificateFile,
		"--tls-private-key-file="+serving.keyFile,
		"--client-ca-file="+l.path("ca.crt"),
		"--service-account-issuer="+issuer,
		"--service-account-signing-key-file="+tokenKey,
		"--service-account-key-file="+tokenPublic,
		"--service-cluster-ip-range="+plan.ServiceRanges,
		// The nodes' names are in no DNS.
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-certificate-authority="+l.path("ca.crt"),
		"--kubelet-client-certificate="+kubeletCaller.certificateFile,
		"--kubelet-client-key="+kubeletCaller.keyFile,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		// 127.0.0.1 is not allowed in an EndpointSlice.
		"--endpoint-reconciler-type=none",
		// No kube-proxy: webhooks are called at the addresses of their endpoints.
		"--enable-aggregator-routing=true",
		"-v="+strconv.Itoa(o.verbosity),
	)
	l.add(ControllerManager, func() error { return l.get(kcmURL + "/healthz") },
		"--kubeconfig="+l.path("pki/"+ControllerManager+".cfg"),
		"--bind-address=127.0.0.1",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+tokenKey,
		"--root-ca-file="+l.path("ca.crt"),
		"--leader-elect=false",
		"--allocate-node-cidrs=false",
		"--node-monitor-grace-period="+o.nodeGrace.String(),
		"--node-monitor-period="+min(5*time.Second, o.nodeGrace/4).String(),
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
		"-v="+strconv.Itoa(o.verbosity),
	)
	l.add(Scheduler, func() error { return l.get(schedURL + "/healthz") },
		"--kubeconfig="+l.path("pki/"+Scheduler+".cfg"),
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
		"-v="+strconv.Itoa(o.verbosity),
	)
	l.add(Kubelet, l.kubeletServes,
		"--kubeconfig="+l.path("kubeconfig"),
		"--socket="+l.path(kubeletSocket),
		"--nodes="+strconv.Itoa(o.nodes),
		"--max-pods="+strconv.Itoa(o.maxPods),
		"--node-grace="+o.nodeGrace.String(),
		"--tls-cert-file="+kubeletServing.certificateFile,
		"--tls-private-key-file="+kubeletServing.keyFile,
		"--client-ca-file="+l.path("ca.crt"),
	)
	return l, nil
}

func (l *lab) path(file string) string { return filepath.Join(l.dir, file) }

func (l *lab) add(name string, ready func() error, args ...string) {
	l.components[name] = &process{
		name:  name,
		args:  args,
		log:   l.path("log/" + name + ".log"),
		ready: ready,
		died:  l.died,
	}
	l.order = append(l.order, name)
}

// connect makes the lab's own clients.
func (l *lab) connect(ca []byte, admin pair) error {
	config, err := clientcmd.BuildConfigFromFlags("", l.path("kubeconfig"))
	if err != nil {
		return err
	}
	config.QPS = -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	if l.client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	certificate, err := tls.X509KeyPair(admin.certificate, admin.key)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	l.http = &http.Client{
		// A component that is paused accepts connections and says nothing.
		Timeout: 10 * time.Second,
		Transport: &roundTripper{
			ca: &http.Transport{
				TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}},
				DisableKeepAlives: true,
			},
			// The controller manager and the scheduler sign their own certificates.
			own: &http.Transport{
				TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
				DisableKeepAlives: true,
			},
		},
	}
	return nil
}

type roundTripper struct{ ca, own http.RoundTripper }

func (r *roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	if strings.HasPrefix(request.URL.String(), apiURL) {
		return r.ca.RoundTrip(request)
	}
	return r.own.RoundTrip(request)
}

func (l *lab) get(url string) error {
	response, err := l.http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 512))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, response.Status, strings.Join(strings.Fields(string(body)), " "))
	}
	return nil
}

func (l *lab) etcdServes() error { return l.get(etcdURL + "/health") }

func (l *lab) kubeletServes() error {
	_, err := askKubelet(l.path(kubeletSocket), "ping")
	return err
}

// nodesServe returns nil once all nodes are Ready and Pods can be made in the default namespace.
func (l *lab) nodesServe() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	nodes, err := l.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ready := 0
	for _, node := range nodes.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == "Ready" && condition.Status == "True" && !tainted(&node) {
				ready++
			}
		}
	}
	if ready < l.nodes {
		return fmt.Errorf("%d of %d nodes are ready", ready, l.nodes)
	}
	if _, err := l.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{}); err != nil {
		return errors.New("there is no ServiceAccount default in the namespace default")
	}
	return nil
}
