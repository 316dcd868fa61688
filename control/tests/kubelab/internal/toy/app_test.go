package toy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

func start(t *testing.T) (*App, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	a := Start("web-0", []netip.Addr{at.Addr()}, []Port{{Number: at.Port()}, {Number: at.Port(), UDP: true}}, 0, func() {})
	if !a.Listening() {
		t.Fatal("it does not listen")
	}
	return a, at
}

func TestDrain(t *testing.T) {
	a, at := start(t)
	idle, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	idleReader := bufio.NewReader(idle)
	response, err := http.ReadResponse(idleReader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(response.Body); string(body) != "web-0\n" {
		t.Fatalf("%q", body)
	}
	slow := make(chan error, 1)
	go func() {
		response, err := http.Get("http://" + at.String() + "/slow?ms=300")
		if err == nil && !response.Close {
			err = fmt.Errorf("the connection is kept")
		}
		slow <- err
	}()
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	done := a.Drain()
	if _, err := idleReader.ReadByte(); err != io.EOF {
		t.Errorf("an idle connection ends with %v", err)
	}
	if c, err := net.Dial("tcp", at.String()); err == nil {
		c.Close()
		t.Error("it still listens")
	}
	<-done
	if took := time.Since(began); took < 150*time.Millisecond || took > 10*time.Second {
		t.Errorf("drained after %s", took)
	}
	if err := <-slow; err != nil {
		t.Error(err)
	}
}

func TestStream(t *testing.T) {
	a, at := start(t)
	response, err := http.Get("http://" + at.String() + "/stream?ms=20")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(response.Body)
	for range 3 {
		if line, err := lines.ReadString('\n'); line != "web-0\n" || err != nil {
			t.Fatalf("%q, %v", line, err)
		}
	}
	done := a.Drain()
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Errorf("after %q the stream ends with %v", rest, err)
	}
	<-done
}

func TestAcceptAfter(t *testing.T) {
	first, at := start(t)
	first.Kill()
	listening := make(chan struct{})
	began := time.Now()
	a := Start("web-0", []netip.Addr{at.Addr()}, []Port{{Number: at.Port()}}, 200*time.Millisecond,
		func() { close(listening) })
	if c, err := net.Dial("tcp", at.String()); err == nil {
		c.Close()
		t.Error("it listens at once")
	}
	<-listening
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("it listens after %s", took)
	}
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	a.Kill()

	// One that ends before its time never listens.
	b := Start("web-1", []netip.Addr{at.Addr()}, []Port{{Number: at.Port()}}, 50*time.Millisecond, func() { t.Error("listens") })
	<-b.Drain()
	time.Sleep(100 * time.Millisecond)
	if b.Listening() {
		t.Error("it listens after its end")
	}
}

func TestKill(t *testing.T) {
	a, at := start(t)
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET /slow?ms=10000 HTTP/1.1\r\nHost: x\r\n\r\n")
	time.Sleep(50 * time.Millisecond)
	a.Kill()
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("killed: %v", err)
	}
}

func TestEcho(t *testing.T) {
	a, at := start(t)
	defer a.Kill()
	c, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "hello")
	buffer := make([]byte, 100)
	n, err := c.Read(buffer)
	if err != nil || string(buffer[:n]) != "web-0 hello" {
		t.Errorf("%q, %v", buffer[:n], err)
	}
}
