// kubelab is a Kubernetes control plane for tests: one binary that runs itself again as etcd, the API server, the
// controller manager, the scheduler and a stand-in for the kubelets. README.md says how to use it.
package main

import (
	"fmt"
	"os"
	_ "time/tzdata" // time zones of CronJobs

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/component-base/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	"podline.io/kubelab/internal/kubelet"
	"podline.io/kubelab/internal/up"
)

const usage = `usage:
  kubelab up --dir DIR [--nodes N] [--advertise ADDR] [--max-pods N] [--node-grace DURATION] [--until-eof]
  kubelab ctl --dir DIR COMMAND...
  kubelab version
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	command, args := os.Args[1], os.Args[2:]
	// The components read os.Args themselves.
	os.Args = append([]string{command}, args...)
	// What ps shows instead of "exe".
	_ = os.WriteFile("/proc/self/comm", []byte(command), 0)
	switch command {
	case "up":
		os.Exit(up.Main(args))
	case "ctl":
		os.Exit(up.Control(args))
	case "version":
		fmt.Println(version.Get().GitVersion)
	case up.Etcd:
		etcdmain.Main(os.Args)
	case up.APIServer:
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case up.ControllerManager:
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	case up.Scheduler:
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	case up.Kubelet:
		os.Exit(kubelet.Main(args))
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
}
