// Files that tell a client where the API server is and who it may say it is.
package up

import (
	"encoding/base64"
	"fmt"
	"os"
)

const kubeconfigText = `apiVersion: v1
kind: Config
current-context: kubelab
clusters:
- name: kubelab
  cluster:
    server: %s
    certificate-authority-data: %s
contexts:
- name: kubelab
  context:
    cluster: kubelab
    user: kubelab
users:
- name: kubelab
  user:
    client-certificate-data: %s
    client-key-data: %s
`

func writeKubeconfig(file, server string, ca []byte, user pair) error {
	encode := base64.StdEncoding.EncodeToString
	text := fmt.Sprintf(kubeconfigText, server, encode(ca), encode(user.certificate), encode(user.key))
	return os.WriteFile(file, []byte(text), 0o600)
}
