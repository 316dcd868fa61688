package kubelet

import (
	"net/netip"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	"k8s.io/kubernetes/pkg/kubelet/status"

	"podline.io/kubelab/internal/plan"
)

// stage is how far the containers of a Pod have come.
type stage int

const (
	creating stage = iota
	running
	completed  // they ended by themselves
	killed     // they had to be killed
	failed     // they failed by themselves
	neverBegun // the Pod was deleted before they were started
)

func (s stage) terminal() bool { return s >= completed }

// facts are what the stand-in knows of a Pod beyond its object.
type facts struct {
	node    plan.Node
	stage   stage
	ready   bool // the readiness probes of its containers pass
	ips     []netip.Addr
	started time.Time
	ended   time.Time
}

// newStatus is the status that the kubelet reports for a Pod: conditions and reasons come from the kubelet's own code.
// Conditions that others have set stay.
func newStatus(pod *v1.Pod, f facts) v1.PodStatus {
	old := &pod.Status
	s := *old.DeepCopy()
	s.ObservedGeneration = pod.Generation
	if s.StartTime == nil {
		now := metav1.Now()
		s.StartTime = &now
	}
	s.HostIP = f.node.V4.String()
	s.HostIPs = []v1.HostIP{{IP: f.node.V4.String()}, {IP: f.node.V6.String()}}
	if len(f.ips) > 0 {
		s.PodIP, s.PodIPs = f.ips[0].String(), nil
		for _, ip := range f.ips {
			s.PodIPs = append(s.PodIPs, v1.PodIP{IP: ip.String()})
		}
	}
	switch f.stage {
	case creating:
		s.Phase = v1.PodPending
	case running:
		s.Phase = v1.PodRunning
	case completed:
		s.Phase = v1.PodSucceeded
	default:
		s.Phase = v1.PodFailed
	}
	s.InitContainerStatuses = nil
	for _, c := range pod.Spec.InitContainers {
		sidecar := podutil.IsRestartableInitContainer(&c)
		s.InitContainerStatuses = append(s.InitContainerStatuses, containerStatus(pod, c, f, !sidecar))
	}
	s.ContainerStatuses = nil
	for _, c := range pod.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, containerStatus(pod, c, f, false))
	}

	all := append(append([]v1.ContainerStatus{}, s.InitContainerStatuses...), s.ContainerStatuses...)
	sandbox := v1.ConditionFalse
	if f.stage == running {
		sandbox = v1.ConditionTrue
	}
	for _, condition := range []v1.PodCondition{
		{
			Type:               v1.PodReadyToStartContainers,
			Status:             sandbox,
			ObservedGeneration: podutil.CalculatePodConditionObservedGeneration(old, pod.Generation, v1.PodReadyToStartContainers),
		},
		status.GeneratePodInitializedCondition(pod, old, all, s.Phase),
		status.GenerateContainersReadyCondition(pod, old, all, s.Phase),
		status.GeneratePodReadyCondition(pod, old, s.Conditions, all, s.Phase),
	} {
		podutil.UpdatePodCondition(&s, &condition)
	}
	return s
}

// containerStatus is the status of one container; those that run once have run before the Pod is running.
func containerStatus(pod *v1.Pod, c v1.Container, f facts, once bool) v1.ContainerStatus {
	s := v1.ContainerStatus{Name: c.Name, Image: c.Image}
	yes, no := true, false
	s.Started = &no
	begun, ended := metav1.NewTime(f.started), metav1.NewTime(f.ended)
	terminated := func(code int32, reason string, end metav1.Time) {
		s.State.Terminated = &v1.ContainerStateTerminated{
			ExitCode: code, Reason: reason, StartedAt: begun, FinishedAt: end, ContainerID: containerID(pod, c),
		}
		s.ContainerID = containerID(pod, c)
		s.ImageID = c.Image
	}
	switch {
	case f.stage == creating:
		s.State.Waiting = &v1.ContainerStateWaiting{Reason: "ContainerCreating"}
	case f.stage == neverBegun:
		s.State.Terminated = &v1.ContainerStateTerminated{
			ExitCode: 137, Reason: "ContainerStatusUnknown",
			Message: "The container could not be located when the pod was terminated",
		}
	case once:
		terminated(0, "Completed", begun)
		s.Ready = true
	case f.stage == running:
		s.State.Running = &v1.ContainerStateRunning{StartedAt: begun}
		s.ContainerID, s.ImageID = containerID(pod, c), c.Image
		s.Started, s.Ready = &yes, f.ready
		if code, is := lastExit(pod); is {
			s.RestartCount = 1
			s.LastTerminationState.Terminated = &v1.ContainerStateTerminated{
				ExitCode: code, StartedAt: begun, FinishedAt: begun, ContainerID: containerID(pod, c),
			}
		}
	case f.stage == completed:
		terminated(0, "Completed", ended)
	case f.stage == killed:
		terminated(137, "Error", ended)
	case f.stage == failed:
		terminated(1, "Error", ended)
	}
	return s
}

func containerID(pod *v1.Pod, c v1.Container) string {
	return "kubelab://" + string(pod.UID) + "/" + c.Name
}
