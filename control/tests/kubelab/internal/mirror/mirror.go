// Package mirror keeps a copy of all objects of one kind. It is what an informer is, but for one thing: after the API
// server was away it comes back at once, where an informer takes up to half a minute.
package mirror

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
)

// Object is what can be mirrored: a pointer to an object of the API.
type Object interface {
	comparable
	runtime.Object
	metav1.Object
}

// Mirror is a copy of all objects of one kind.
type Mirror[T Object] struct {
	changed func(was, is T)
	synced  chan struct{}
	once    sync.Once

	mu      sync.Mutex
	objects map[string]T
}

// Start begins to copy. For each change, the first objects among them, it calls changed, one call at a time: with nil
// instead of what was not there before, or is not there now. An object may have been replaced by one of another UID.
func Start[T Object](ctx context.Context, getter cache.Getter, resource string, example T, changed func(was, is T)) *Mirror[T] {
	m := &Mirror[T]{changed: changed, synced: make(chan struct{}), objects: map[string]T{}}
	source := cache.NewListWatchFromClient(getter, resource, metav1.NamespaceAll, fields.Everything())
	reflector := cache.NewReflectorWithOptions(source, example, m, cache.ReflectorOptions{
		Backoff: &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 1, Jitter: 0.1, Steps: 1},
	})
	go reflector.RunWithContext(ctx)
	return m
}

// Wait returns once the first copy is complete.
func (m *Mirror[T]) Wait(ctx context.Context) error {
	select {
	case <-m.synced:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// List returns all objects.
func (m *Mirror[T]) List() []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]T, 0, len(m.objects))
	for _, o := range m.objects {
		all = append(all, o)
	}
	return all
}

func key(o metav1.Object) string { return o.GetNamespace() + "/" + o.GetName() }

func (m *Mirror[T]) set(o any) error {
	is := o.(T)
	m.mu.Lock()
	was := m.objects[key(is)]
	m.objects[key(is)] = is
	m.mu.Unlock()
	m.changed(was, is)
	return nil
}

// Add is called by the reflector.
func (m *Mirror[T]) Add(o any) error { return m.set(o) }

// Update is called by the reflector.
func (m *Mirror[T]) Update(o any) error { return m.set(o) }

// Delete is called by the reflector.
func (m *Mirror[T]) Delete(o any) error {
	var none T
	last := o.(T)
	m.mu.Lock()
	delete(m.objects, key(last))
	m.mu.Unlock()
	m.changed(last, none)
	return nil
}

// Replace is called by the reflector with all that there is.
func (m *Mirror[T]) Replace(list []any, _ string) error {
	var none T
	is := map[string]T{}
	for _, o := range list {
		is[key(o.(T))] = o.(T)
	}
	m.mu.Lock()
	was := m.objects
	m.objects = is
	m.mu.Unlock()
	for k, o := range was {
		if is[k] == none {
			m.changed(o, none)
		}
	}
	for k, o := range is {
		if old := was[k]; old == none || old.GetResourceVersion() != o.GetResourceVersion() {
			m.changed(old, o)
		}
	}
	m.once.Do(func() { close(m.synced) })
	return nil
}

// Resync is called by the reflector; there is nothing to do.
func (m *Mirror[T]) Resync() error { return nil }
