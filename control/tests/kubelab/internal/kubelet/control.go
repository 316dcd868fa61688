package kubelet

import (
	"bufio"
	"fmt"
	"net"
	"strings"
)

// serve answers the lab: one line in, one line out. It listens only once all Pods that were there are adopted.
func (k *kubelet) serve(socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			line, _ := bufio.NewReader(connection).ReadString('\n')
			if err := k.command(strings.Fields(line)); err != nil {
				fmt.Fprintf(connection, "error: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
				return
			}
			fmt.Fprintln(connection, "ok")
		}()
	}
}

func (k *kubelet) command(words []string) error {
	if len(words) == 1 && words[0] == "ping" {
		return nil
	}
	if len(words) != 3 || words[0] != "node" {
		return fmt.Errorf("unknown command %q", strings.Join(words, " "))
	}
	name, up := words[1], words[2] == "up"
	n := k.node(name)
	switch {
	case n == nil && up:
		_, err := k.join(name)
		return err
	case n == nil:
		return fmt.Errorf("there is no %s", name)
	case !up:
		n.set(false)
		return nil
	}
	n.set(true)
	return n.register()
}
