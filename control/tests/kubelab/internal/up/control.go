// The control socket: one line in, one line out, then the connection is closed.
package up

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"podline.io/kubelab/internal/plan"
)

const (
	controlSocket = "control.sock"
	kubeletSocket = "kubelet.sock"
	// How long a component may take to be ready after a start.
	startPatience = 90 * time.Second
)

func (l *lab) serveControl() error {
	path := l.path(controlSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				line, err := bufio.NewReader(connection).ReadString('\n')
				if err != nil && line == "" {
					return
				}
				answer, err := l.command(strings.Fields(line))
				switch {
				case err != nil:
					answer = "error: " + oneLine(err.Error())
				case answer == "":
					answer = "ok"
				default:
					answer = "ok " + answer
				}
				fmt.Fprintln(connection, answer)
			}()
		}
	}()
	return nil
}

func oneLine(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", " | ") }

// command does what one line says.
func (l *lab) command(words []string) (string, error) {
	if len(words) == 0 {
		return "", errors.New("an empty line")
	}
	switch verb, rest := words[0], words[1:]; {
	case verb == "status" && len(rest) == 0:
		var states []string
		for _, name := range l.order {
			states = append(states, name+"="+l.components[name].status())
		}
		return strings.Join(states, " "), nil
	case verb == "compact" && len(rest) == 0:
		return compact()
	case verb == "requests" && len(rest) == 0:
		return l.requests()
	case verb == "node" && len(rest) == 2 && (rest[1] == "down" || rest[1] == "up"):
		return "", l.node(rest[0], rest[1] == "down")
	case len(rest) == 1:
		return "", l.act(verb, rest[0])
	}
	return "", fmt.Errorf("unknown command %q", strings.Join(words, " "))
}

func (l *lab) act(verb, name string) error {
	if long, ok := shortNames[name]; ok {
		name = long
	}
	p := l.components[name]
	if p == nil {
		return fmt.Errorf("there is no component %q", name)
	}
	p.commands.Lock()
	defer p.commands.Unlock()
	switch verb {
	case "stop":
		p.end(true)
		return nil
	case "kill":
		p.end(false)
		return nil
	case "start", "restart":
		if verb == "restart" {
			p.end(true)
		}
		if err := p.spawn(); err != nil {
			return err
		}
		return p.waitReady(startPatience)
	case "pause":
		return p.pause(true)
	case "resume":
		return p.pause(false)
	}
	return fmt.Errorf("unknown command %q", verb)
}

// node tells the kubelet stand-in to play a node dead, or alive again.
func (l *lab) node(name string, down bool) error {
	node, err := plan.Parse(name, l.maxPods)
	if err != nil {
		return err
	}
	word := "up"
	if down {
		word = "down"
	} else if err := local(node); err != nil {
		return err
	}
	_, err = askKubelet(l.path(kubeletSocket), "node "+name+" "+word)
	return err
}

// askKubelet sends the kubelet stand-in one line and returns its answer without the ok.
func askKubelet(socket, line string) (string, error) {
	answer, err := ask(socket, line)
	if err != nil {
		return "", err
	}
	if text, ok := strings.CutPrefix(answer, "ok"); ok {
		return strings.TrimSpace(text), nil
	}
	return "", errors.New(strings.TrimPrefix(answer, "error: "))
}

func ask(socket, line string) (string, error) {
	connection, err := net.Dial("unix", socket)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(2 * startPatience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(connection, line); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(connection).ReadString('\n')
	return strings.TrimSuffix(answer, "\n"), err
}

// Control is the command "ctl": it sends a line to a lab's control socket and prints the answer.
func Control(args []string) int {
	flags := flag.NewFlagSet("kubelab ctl", flag.ExitOnError)
	dir := flags.String("dir", "", "the lab's directory")
	_ = flags.Parse(args)
	if *dir == "" || flags.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: kubelab ctl --dir DIR COMMAND...")
		return 2
	}
	answer, err := ask(filepath.Join(*dir, controlSocket), strings.Join(flags.Args(), " "))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(answer)
	if strings.HasPrefix(answer, "error:") {
		return 1
	}
	return 0
}
