package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/netip"
	"strconv"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"podline.io/kubelab/internal/toy"
)

// A SIGTERM is never followed by a SIGKILL sooner than this, as with the kubelet.
const leastGrace = 2 * time.Second

// worker leads one Pod, known by its UID, from the node it is bound to until its object is gone.
type worker struct {
	node *node
	key  types.NamespacedName
	uid  types.UID

	facts facts
	place int
	app   *toy.App

	finished bool // guarded by the kubelet's lock

	news chan struct{} // something below has changed

	mu   sync.Mutex
	pod  *v1.Pod // as last seen
	gone bool    // the object was deleted
}

func newWorker(n *node, pod *v1.Pod) *worker {
	return &worker{
		node:  n,
		key:   types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name},
		uid:   pod.UID,
		facts: facts{node: n.Node},
		place: n.addresses.adopt(pod),
		news:  make(chan struct{}, 1),
		pod:   pod,
	}
}

func (w *worker) wake() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// see takes a newer object.
func (w *worker) see(pod *v1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if revision(pod) > revision(w.pod) {
		w.pod = pod
		w.wake()
	}
}

func (w *worker) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = true
	w.wake()
}

func (w *worker) latest() (pod *v1.Pod, gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod, w.gone
}

func revision(pod *v1.Pod) uint64 {
	n, _ := strconv.ParseUint(pod.ResourceVersion, 10, 64)
	return n
}

// wait returns after some news, or at that time (never, if it is zero); not while the node is down.
func (w *worker) wait(until time.Time) {
	var timer <-chan time.Time
	if !until.IsZero() {
		timer = time.After(time.Until(until))
	}
	select {
	case <-w.news:
	case <-timer:
	}
	w.node.awaitUp()
}

func (w *worker) run() {
	w.node.awaitUp()
	pod, gone := w.latest()
	if pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed {
		w.release()
		w.bury()
		return
	}
	if gone {
		w.release()
		return
	}
	if !w.begin() {
		w.facts.stage = neverBegun
	} else {
		w.facts.stage = running
		w.live()
	}
	w.facts.ended = time.Now()
	w.facts.ready = false
	w.report()
	w.release()
	w.bury()
}

// begin takes addresses and starts the containers; false if the Pod is to end before that.
func (w *worker) begin() bool {
	pod, _ := w.latest()
	adopted := pod.Status.Phase == v1.PodRunning && (w.place != 0 || pod.Spec.HostNetwork)
	if !adopted {
		w.report()
		until := time.Now().Add(duration(pod, startDelay, defaultStartDelay))
		for time.Now().Before(until) {
			if pod, gone := w.latest(); gone || pod.DeletionTimestamp != nil {
				return false
			}
			w.wait(until)
		}
	}
	if pod.Spec.HostNetwork {
		w.facts.ips = []netip.Addr{w.node.V4, w.node.V6}
	} else {
		for w.place == 0 {
			place, err := w.node.addresses.take()
			if err == nil {
				w.place = place
				break
			}
			if pod, gone := w.latest(); gone || pod.DeletionTimestamp != nil {
				return false
			}
			log.Printf("%s: %v", w.key, err)
			w.wait(time.Now().Add(time.Second))
		}
		v4, v6, _ := w.node.Pod(w.place)
		w.facts.ips = []netip.Addr{v4, v6}
	}
	w.facts.started = time.Now()
	if adopted {
		w.facts.started = startOf(pod)
	}
	after := time.Until(w.facts.started.Add(duration(pod, acceptAfter, 0)))
	var ports []toy.Port
	if pod.Annotations[listen] != "none" {
		ports = portsOf(pod)
	}
	w.app = toy.Start(pod.Name, w.facts.ips, ports, after, w.wake)
	return true
}

func startOf(pod *v1.Pod) time.Time {
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Running != nil {
			return c.State.Running.StartedAt.Time
		}
	}
	return time.Now()
}

func portsOf(pod *v1.Pod) []toy.Port {
	var ports []toy.Port
	seen := map[toy.Port]bool{}
	for _, c := range append(append([]v1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...) {
		for _, p := range c.Ports {
			port := toy.Port{Number: uint16(p.ContainerPort), UDP: p.Protocol == v1.ProtocolUDP}
			if p.Protocol != v1.ProtocolSCTP && !seen[port] {
				seen[port] = true
				ports = append(ports, port)
			}
		}
	}
	return ports
}

// live reports the running Pod until it is deleted or fails, and ends its containers.
func (w *worker) live() {
	for {
		pod, gone := w.latest()
		if gone || pod.DeletionTimestamp != nil {
			w.terminate()
			return
		}
		if pod.Annotations[fail] == "true" {
			w.app.Kill()
			w.facts.stage = failed
			return
		}
		w.report()
		w.wait(time.Time{})
	}
}

// terminate ends the containers as the Pod's grace period and annotations say.
func (w *worker) terminate() {
	began := time.Now()
	// The grace period can be cut short by a second deletion.
	grace := func() time.Duration {
		pod, gone := w.latest()
		switch {
		case gone:
			return 0
		case pod.DeletionGracePeriodSeconds != nil:
			return time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
		}
		return 0
	}
	pod, _ := w.latest()
	sleep := preStop(pod)
	for {
		until := began.Add(min(sleep, grace()))
		if !time.Now().Before(until) {
			break
		}
		w.reportUnlessGone()
		w.wait(until)
	}

	// SIGTERM.
	term := time.Now()
	var drained <-chan struct{}
	after := time.Duration(-1)
	switch how := pod.Annotations[onTerm]; how {
	case "linger":
	case "", "exit":
		after = 0
	default:
		d, err := time.ParseDuration(how)
		if err != nil {
			log.Printf("%s: annotation %s: %v", w.key, onTerm, err)
		}
		after = d
	}
	for {
		now := time.Now()
		deadline := began.Add(grace())
		if least := term.Add(leastGrace); deadline.Before(least) {
			deadline = least
		}
		if !now.Before(deadline) {
			w.app.Kill()
			w.facts.stage = killed
			return
		}
		if drained == nil && after >= 0 && !now.Before(term.Add(after)) {
			drained = w.app.Drain()
		}
		until := deadline
		if drained == nil && after >= 0 && term.Add(after).Before(deadline) {
			until = term.Add(after)
		}
		select {
		case <-drained:
			w.facts.stage = completed
			return
		case <-w.news:
		case <-time.After(time.Until(until)):
		}
		w.node.awaitUp()
		if drained == nil {
			w.reportUnlessGone()
		}
	}
}

func preStop(pod *v1.Pod) time.Duration {
	var longest time.Duration
	for _, c := range pod.Spec.Containers {
		if c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.Sleep != nil {
			longest = max(longest, time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second)
		}
	}
	return longest
}

func (w *worker) release() {
	if w.place != 0 {
		w.node.addresses.free(w.place)
		w.place = 0
	}
}

func (w *worker) reportUnlessGone() {
	if _, gone := w.latest(); !gone {
		w.report()
	}
}

// report brings the Pod's status up to date. It returns when that is done, or the Pod is gone.
func (w *worker) report() {
	for attempt := 0; ; attempt++ {
		w.node.awaitUp()
		pod, gone := w.latest()
		if gone {
			return
		}
		if w.facts.stage == running {
			w.facts.ready = pod.Annotations[ready] != "false" && (w.app.Listening() || seemsReady(pod))
		}
		patch, err := w.patch(pod)
		if err == nil && patch == nil {
			return
		}
		if err == nil {
			var patched *v1.Pod
			ctx, cancel := context.WithTimeout(context.Background(), requestPatience)
			patched, err = w.node.client.CoreV1().Pods(w.key.Namespace).Patch(
				ctx, w.key.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
			cancel()
			if err == nil {
				w.see(patched)
				return
			}
		}
		if w.over(err) {
			return
		}
		w.retry("status", err, attempt)
	}
}

// patch is what the kubelet would send; nil if there is nothing to change.
func (w *worker) patch(pod *v1.Pod) ([]byte, error) {
	before, err := json.Marshal(v1.Pod{Status: pod.Status})
	if err != nil {
		return nil, err
	}
	// The UID is a precondition: it must never be another Pod's status.
	after, err := json.Marshal(v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: w.uid}, Status: newStatus(pod, w.facts)})
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, v1.Pod{})
	if err != nil {
		return nil, err
	}
	if string(patch) == fmt.Sprintf(`{"metadata":{"uid":%q}}`, w.uid) {
		return nil, nil
	}
	return patch, nil
}

// bury waits until the ended Pod is to be deleted, and deletes it.
func (w *worker) bury() {
	for attempt := 0; ; {
		pod, gone := w.latest()
		if gone {
			return
		}
		if pod.DeletionTimestamp == nil {
			w.wait(time.Time{})
			continue
		}
		w.node.awaitUp()
		ctx, cancel := context.WithTimeout(context.Background(), requestPatience)
		err := w.node.client.CoreV1().Pods(w.key.Namespace).Delete(ctx, w.key.Name, metav1.DeleteOptions{
			GracePeriodSeconds: new(int64),
			Preconditions:      &metav1.Preconditions{UID: &w.uid},
		})
		cancel()
		if err == nil || w.over(err) {
			return
		}
		w.retry("deletion", err, attempt)
		attempt++
	}
}

// over tells whether an error means that the Pod is no more: gone, or its name is another's by now.
func (w *worker) over(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsInvalid(err)
}

func (w *worker) retry(what string, err error, attempt int) {
	if attempt%10 == 0 {
		log.Printf("%s: %s: %v", w.key, what, err)
	}
	time.Sleep(min(time.Second, 50*time.Millisecond<<min(attempt, 6)))
}
