package kubelet

import (
	"context"
	"encoding/json"
	"log"
	"sync"
	"time"

	coordination "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-base/version"

	"podline.io/kubelab/internal/plan"
)

const (
	leases          = "kube-node-lease"
	requestPatience = 10 * time.Second
	// A status that is as it was is sent again after this long.
	statusEvery = time.Minute
)

// node is the kubelet of one node: its registration and heartbeats, and what its Pods share.
type node struct {
	plan.Node
	client    kubernetes.Interface // acts as the node
	addresses *addresses
	maxPods   int
	every     time.Duration // between heartbeats

	speaking sync.Mutex // one heartbeat at a time

	mu sync.Mutex
	up chan struct{} // closed while the node is up
}

func providerID(name string) string { return "kubelab://" + name }

func (n *node) awaitUp() {
	n.mu.Lock()
	up := n.up
	n.mu.Unlock()
	<-up
}

func (n *node) isUp() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.up:
		return true
	default:
		return false
	}
}

// set makes the node fall silent, or speak again.
func (n *node) set(up bool) {
	if up == n.isUp() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if up {
		close(n.up)
	} else {
		n.up = make(chan struct{})
	}
}

// beat sends heartbeats for ever.
func (n *node) beat() {
	var reported time.Time
	for {
		n.awaitUp()
		n.speaking.Lock()
		err := n.renew()
		var done bool
		if err == nil {
			done, err = n.report(time.Since(reported) >= statusEvery)
		}
		n.speaking.Unlock()
		if err != nil {
			log.Printf("%s: heartbeat: %v", n.Name, err)
		}
		if done {
			reported = time.Now()
		}
		wait := n.every
		if err != nil {
			wait = min(wait, time.Second)
		}
		time.Sleep(wait)
	}
}

// register makes the node's object if there is none, and says that it is ready.
func (n *node) register() error {
	n.speaking.Lock()
	defer n.speaking.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), requestPatience)
	defer cancel()
	labels := map[string]string{
		v1.LabelHostname:   n.Name,
		v1.LabelOSStable:   "linux",
		v1.LabelArchStable: "amd64",
	}
	if n.Zone != "" {
		labels[v1.LabelTopologyZone] = n.Zone
		labels[v1.LabelTopologyRegion] = "lab"
	}
	_, err := n.client.CoreV1().Nodes().Create(ctx, &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: labels},
		Spec: v1.NodeSpec{
			PodCIDR:    n.Pods4.String(),
			PodCIDRs:   []string{n.Pods4.String(), n.Pods6.String()},
			ProviderID: providerID(n.Name),
		},
		Status: n.status(v1.NodeStatus{}),
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if err := n.renew(); err != nil {
		return err
	}
	_, err = n.report(true)
	return err
}

// renew renews the node's lease.
func (n *node) renew() error {
	ctx, cancel := context.WithTimeout(context.Background(), requestPatience)
	defer cancel()
	client := n.client.CoordinationV1().Leases(leases)
	now := metav1.NowMicro()
	lease, err := client.Get(ctx, n.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		seconds := int32(40)
		_, err = client.Create(ctx, &coordination.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: n.Name},
			Spec: coordination.LeaseSpec{
				HolderIdentity:       &n.Name,
				LeaseDurationSeconds: &seconds,
				RenewTime:            &now,
			},
		}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec.RenewTime = &now
	_, err = client.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}

// report sends the node's status if it is not what it should be, or always. It tells whether it sent it.
func (n *node) report(always bool) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestPatience)
	defer cancel()
	current, err := n.client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		return false, nil // deleted: as with the kubelet, it comes back only with a restart
	}
	if err != nil {
		return false, err
	}
	if !always {
		healthy := false
		for _, c := range current.Status.Conditions {
			if c.Type == v1.NodeReady && c.Status == v1.ConditionTrue {
				healthy = true
			}
		}
		if healthy {
			return false, nil
		}
	}
	before, err := json.Marshal(v1.Node{Status: current.Status})
	if err != nil {
		return false, err
	}
	after, err := json.Marshal(v1.Node{Status: n.status(current.Status)})
	if err != nil {
		return false, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, v1.Node{})
	if err != nil {
		return false, err
	}
	_, err = n.client.CoreV1().Nodes().Patch(ctx, n.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err == nil, err
}

// status is the node's status now; conditions that others have set stay.
func (n *node) status(old v1.NodeStatus) v1.NodeStatus {
	s := *old.DeepCopy()
	resources := v1.ResourceList{
		v1.ResourceCPU:              resource.MustParse("1000"),
		v1.ResourceMemory:           resource.MustParse("1000Gi"),
		v1.ResourceEphemeralStorage: resource.MustParse("1000Gi"),
		v1.ResourcePods:             *resource.NewQuantity(int64(n.maxPods), resource.DecimalSI),
	}
	s.Capacity, s.Allocatable = resources, resources
	s.Addresses = []v1.NodeAddress{
		{Type: v1.NodeInternalIP, Address: n.V4.String()},
		{Type: v1.NodeInternalIP, Address: n.V6.String()},
		{Type: v1.NodeHostName, Address: n.Name},
	}
	s.DaemonEndpoints.KubeletEndpoint.Port = Port
	s.NodeInfo = v1.NodeSystemInfo{
		MachineID: n.Name, SystemUUID: n.Name, BootID: n.Name,
		KernelVersion: "kubelab", OSImage: "kubelab", ContainerRuntimeVersion: "kubelab://1",
		KubeletVersion: version.Get().GitVersion, OperatingSystem: "linux", Architecture: "amd64",
	}
	now := metav1.Now()
	for _, c := range []v1.NodeCondition{
		{Type: v1.NodeMemoryPressure, Status: v1.ConditionFalse, Reason: "KubeletHasSufficientMemory"},
		{Type: v1.NodeDiskPressure, Status: v1.ConditionFalse, Reason: "KubeletHasNoDiskPressure"},
		{Type: v1.NodePIDPressure, Status: v1.ConditionFalse, Reason: "KubeletHasSufficientPID"},
		{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "KubeletReady", Message: "kubelab"},
	} {
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		found := false
		for i, was := range s.Conditions {
			if was.Type == c.Type {
				if was.Status == c.Status {
					c.LastTransitionTime = was.LastTransitionTime
				}
				s.Conditions[i] = c
				found = true
			}
		}
		if !found {
			s.Conditions = append(s.Conditions, c)
		}
	}
	return s
}
