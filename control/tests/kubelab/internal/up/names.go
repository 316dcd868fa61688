package up

// The components, each a process of its own. The names are the subcommands of this binary, and what /proc shows.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kubelet           = "kubelet"
)

// The control socket takes these names too.
var shortNames = map[string]string{
	"apiserver":          APIServer,
	"controller-manager": ControllerManager,
	"scheduler":          Scheduler,
}
