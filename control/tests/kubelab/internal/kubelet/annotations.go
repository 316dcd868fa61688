package kubelet

import (
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Annotations with which a test tells a Pod how to behave.
const (
	startDelay  = "kubelab.podline.io/start-delay"
	acceptAfter = "kubelab.podline.io/accept-after"
	ready       = "kubelab.podline.io/ready"
	fail        = "kubelab.podline.io/fail"
	onTerm      = "kubelab.podline.io/on-term"
	listen      = "kubelab.podline.io/listen"
	restarted   = "kubelab.podline.io/restarted"

	forwardAddress = "kubelab.podline.io/forward-to"
)

const defaultStartDelay = 100 * time.Millisecond

// duration reads an annotation that is a duration; without one, or with a wrong one, it is otherwise.
func duration(pod *v1.Pod, annotation string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(pod.Annotations[annotation]); err == nil {
		return d
	}
	return otherwise
}

// seemsReady tells whether the containers are taken for ready before they accept: an app without a readiness probe that
// takes its time.
func seemsReady(pod *v1.Pod) bool {
	return duration(pod, acceptAfter, 0) > 0
}

// lastExit is the exit code with which the containers ended before they were started again; false if they never were.
func lastExit(pod *v1.Pod) (int32, bool) {
	code, err := strconv.ParseUint(pod.Annotations[restarted], 10, 8)
	return int32(code), err == nil
}
