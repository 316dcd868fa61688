package plan

import (
	"net/netip"
	"testing"
)

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		n, maxPods int
		pods4      string
		last       string
	}{
		{1, 250, "10.244.1.0/24", "10.244.1.254"},
		{3, 253, "10.244.3.0/24", "10.244.3.254"},
		{3, 254, "10.244.6.0/23", "10.244.7.254"},
		{2, 1000, "10.244.8.0/22", "10.244.11.254"},
	} {
		node, err := New(c.n, c.maxPods)
		if err != nil {
			t.Fatal(err)
		}
		if node.Pods4.String() != c.pods4 || node.Pods4.Masked() != node.Pods4 {
			t.Errorf("node %d, %d Pods: range %s", c.n, c.maxPods, node.Pods4)
		}
		var last netip.Addr
		count := 0
		for place := 2; ; place++ {
			v4, v6, ok := node.Pod(place)
			if !ok {
				break
			}
			if !node.Pods4.Contains(v4) || !node.Pods6.Contains(v6) {
				t.Fatalf("place %d: %s, %s", place, v4, v6)
			}
			if back, ok := node.Place(v4); !ok || back != place {
				t.Fatalf("%s is in place %d, not %d", v4, back, place)
			}
			last = v4
			count++
		}
		if last.String() != c.last || count < c.maxPods {
			t.Errorf("node %d, %d Pods: %d places, the last is %s", c.n, c.maxPods, count, last)
		}
	}
}

func TestTooMany(t *testing.T) {
	if _, err := New(64, 1000); err == nil {
		t.Error("64 nodes with 1000 Pods each fit in a /16")
	}
	if _, err := Parse("node-01", 250); err == nil {
		t.Error("node-01 is a name")
	}
}
