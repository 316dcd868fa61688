package kubelet

import (
	v1 "k8s.io/api/core/v1"
)

// see takes in a Pod that is new or has changed, if it is bound to a node of ours.
func (k *kubelet) see(pod *v1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if pod.Spec.NodeName == "" {
		return
	}
	if w := k.workers[pod.UID]; w != nil {
		w.see(pod)
		return
	}
	n := k.nodes[pod.Spec.NodeName]
	if n == nil {
		return
	}
	w := newWorker(n, pod)
	k.workers[pod.UID] = w
	if k.begun {
		go k.lead(w)
	}
}

// begin lets the Pods go on that were there at the start: by now all their addresses are known.
func (k *kubelet) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.begun = true
	for _, w := range k.workers {
		go k.lead(w)
	}
}

func (k *kubelet) lead(w *worker) {
	w.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	// Forgotten once its object is gone: until then an event of the Pod would make a new worker.
	w.finished = true
	if _, gone := w.latest(); gone {
		delete(k.workers, w.uid)
	}
}

// change takes in what became of a Pod.
func (k *kubelet) change(was, is *v1.Pod) {
	if was != nil && (is == nil || is.UID != was.UID) {
		k.lose(was)
	}
	if is != nil {
		k.see(is)
	}
}

func (k *kubelet) lose(pod *v1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.workers[pod.UID]; w != nil {
		w.lose()
		if w.finished {
			delete(k.workers, w.uid)
		}
	}
}
