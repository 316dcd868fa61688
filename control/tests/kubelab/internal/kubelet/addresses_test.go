package kubelet

import (
	"testing"

	v1 "k8s.io/api/core/v1"

	"podline.io/kubelab/internal/plan"
)

func TestAddresses(t *testing.T) {
	node, err := plan.New(1, plan.DefaultMaxPods)
	if err != nil {
		t.Fatal(err)
	}
	a := newAddresses(node)
	if place := a.adopt(&v1.Pod{Status: v1.PodStatus{PodIP: "10.244.1.3"}}); place != 3 {
		t.Errorf("adopted %d", place)
	}
	if place := a.adopt(&v1.Pod{Status: v1.PodStatus{PodIP: "10.244.2.3"}}); place != 0 {
		t.Errorf("adopted %d of another node", place)
	}
	for _, want := range []int{2, 4, 5} {
		if place, err := a.take(); err != nil || place != want {
			t.Errorf("took %d, not %d: %v", place, want, err)
		}
	}
	a.free(3)
	if place, _ := a.take(); place != 3 {
		t.Errorf("took %d", place)
	}
	if place, _ := a.take(); place != 6 {
		t.Errorf("took %d", place)
	}
	for {
		place, err := a.take()
		if err != nil {
			break
		}
		if place > 254 {
			t.Fatalf("took %d", place)
		}
	}
}
