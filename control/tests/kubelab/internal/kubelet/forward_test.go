package kubelet

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestForwardTo(t *testing.T) {
	for _, c := range []struct {
		phase           v1.PodPhase
		ip, annotation  string
		address, reason string
	}{
		{v1.PodRunning, "10.244.1.2", "", "10.244.1.2", ""},
		{v1.PodRunning, "10.244.1.2", "127.0.0.1", "127.0.0.1", ""},
		{v1.PodRunning, "", "", "", "the Pod has no address"},
		{v1.PodPending, "", "127.0.0.1", "", "the Pod is Pending"},
	} {
		pod := &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{forwardAddress: c.annotation}},
			Status:     v1.PodStatus{Phase: c.phase, PodIP: c.ip},
		}
		address, err := forwardTo(pod)
		reason := ""
		if err != nil {
			reason = err.Error()
		}
		if address != c.address || reason != c.reason {
			t.Errorf("%+v: %q, %q", c, address, reason)
		}
	}
}
