// A component's process: started, stopped, killed, paused, and watched for an end that nobody asked for.
package up

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// How long a component may take to end after SIGTERM.
const stopPatience = 2 * time.Second

// The kernel kills a child with PR_SET_PDEATHSIG when the *thread* that forked it ends, so one thread that never ends
// starts them all.
var spawner = sync.OnceValue(func() chan func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

type process struct {
	name string
	args []string
	log  string
	// Ready returns nil once the component serves.
	ready func() error
	// Died gets the name of a component that ended unasked.
	died chan<- string

	// One command at a time.
	commands sync.Mutex

	// The fields below.
	state  sync.Mutex
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd has ended
	asked  bool          // its end was asked for
	paused bool
}

var errRunning = errors.New("it runs already")

// spawn starts the process and does not wait until it is ready.
func (p *process) spawn() error {
	p.state.Lock()
	defer p.state.Unlock()
	if p.cmd != nil {
		return errRunning
	}
	if err := os.MkdirAll(filepath.Dir(p.log), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{p.name}, p.args...)...)
	cmd.Args[0] = "kubelab"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // a Ctrl-C in the terminal is for the parent alone
	}
	started := make(chan error)
	spawner() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.asked, p.paused = cmd, ended, false, false
	go p.watch(cmd, ended)
	return nil
}

func (p *process) watch(cmd *exec.Cmd, ended chan struct{}) {
	err := cmd.Wait()
	p.state.Lock()
	asked := p.asked
	p.cmd = nil
	close(ended)
	p.state.Unlock()
	if !asked {
		if err == nil {
			err = errors.New("exit status 0")
		}
		p.died <- fmt.Sprintf("%s ended: %v", p.name, err)
	}
}

// end makes the process end, with SIGTERM first if politely, and returns when it has.
func (p *process) end(politely bool) {
	p.state.Lock()
	cmd, ended := p.cmd, p.ended
	if cmd == nil {
		p.state.Unlock()
		return
	}
	p.asked = true
	if politely {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Process.Signal(syscall.SIGCONT)
	}
	p.state.Unlock()
	if politely {
		select {
		case <-ended:
			return
		case <-time.After(stopPatience):
		}
	}
	_ = cmd.Process.Kill()
	<-ended
}

// pause stops the process in its tracks, or lets it go on.
func (p *process) pause(paused bool) error {
	p.state.Lock()
	defer p.state.Unlock()
	if p.cmd == nil {
		return errors.New("it does not run")
	}
	signal := syscall.SIGCONT
	if paused {
		signal = syscall.SIGSTOP
	}
	if err := p.cmd.Process.Signal(signal); err != nil {
		return err
	}
	p.paused = paused
	return nil
}

// status is "running", "paused" or "stopped".
func (p *process) status() string {
	p.state.Lock()
	defer p.state.Unlock()
	switch {
	case p.cmd == nil:
		return "stopped"
	case p.paused:
		return "paused"
	}
	return "running"
}

// waitReady returns when the component serves, or has ended, or does not serve in time.
func (p *process) waitReady(patience time.Duration) error {
	p.state.Lock()
	running, ended := p.cmd != nil, p.ended
	p.state.Unlock()
	if !running {
		return errors.New("it does not run")
	}
	deadline := time.Now().Add(patience)
	for {
		err := p.ready()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %s: %w", patience, err)
		}
		select {
		case <-ended:
			return errors.New("it ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
}
