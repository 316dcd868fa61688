package kubelet

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"podline.io/kubelab/internal/plan"
)

func TestReady(t *testing.T) {
	node, err := plan.New(1, plan.DefaultMaxPods)
	if err != nil {
		t.Fatal(err)
	}
	const gate = "podline.io/ready"
	set := func(status v1.ConditionStatus) []v1.PodCondition {
		return []v1.PodCondition{{Type: gate, Status: status}}
	}
	for _, c := range []struct {
		name       string
		gates      []v1.PodReadinessGate
		conditions []v1.PodCondition
		stage      stage
		probe      bool
		phase      v1.PodPhase
		containers v1.ConditionStatus
		ready      v1.ConditionStatus
		reason     string
	}{
		{"creating", nil, nil, creating, false, v1.PodPending, v1.ConditionFalse, v1.ConditionFalse, "ContainersNotReady"},
		{"no gate", nil, nil, running, true, v1.PodRunning, v1.ConditionTrue, v1.ConditionTrue, ""},
		{"probe fails", nil, nil, running, false, v1.PodRunning, v1.ConditionFalse, v1.ConditionFalse, "ContainersNotReady"},
		{"gate unset", []v1.PodReadinessGate{{ConditionType: gate}}, nil, running, true, v1.PodRunning, v1.ConditionTrue, v1.ConditionFalse, "ReadinessGatesNotReady"},
		{"gate False", []v1.PodReadinessGate{{ConditionType: gate}}, set("False"), running, true, v1.PodRunning, v1.ConditionTrue, v1.ConditionFalse, "ReadinessGatesNotReady"},
		{"gate True", []v1.PodReadinessGate{{ConditionType: gate}}, set("True"), running, true, v1.PodRunning, v1.ConditionTrue, v1.ConditionTrue, ""},
		{"gate True, probe fails", []v1.PodReadinessGate{{ConditionType: gate}}, set("True"), running, false, v1.PodRunning, v1.ConditionFalse, v1.ConditionFalse, "ContainersNotReady"},
		{"completed", nil, nil, completed, false, v1.PodSucceeded, v1.ConditionFalse, v1.ConditionFalse, "PodCompleted"},
		{"killed", nil, nil, killed, false, v1.PodFailed, v1.ConditionFalse, v1.ConditionFalse, "PodFailed"},
	} {
		pod := &v1.Pod{
			Spec: v1.PodSpec{
				Containers:     []v1.Container{{Name: "app"}},
				InitContainers: []v1.Container{{Name: "init"}},
				ReadinessGates: c.gates,
			},
			Status: v1.PodStatus{Conditions: c.conditions},
		}
		s := newStatus(pod, facts{node: node, stage: c.stage, ready: c.probe, started: time.Now(), ended: time.Now()})
		got := map[v1.PodConditionType]v1.PodCondition{}
		for _, condition := range s.Conditions {
			got[condition.Type] = condition
		}
		if s.Phase != c.phase || got[v1.ContainersReady].Status != c.containers || got[v1.PodReady].Status != c.ready || got[v1.PodReady].Reason != c.reason {
			t.Errorf("%s: phase %s, ContainersReady %+v, Ready %+v", c.name, s.Phase, got[v1.ContainersReady], got[v1.PodReady])
		}
		if len(c.conditions) > 0 && got[gate].Status != c.conditions[0].Status {
			t.Errorf("%s: the gate's condition is lost", c.name)
		}
	}
}
