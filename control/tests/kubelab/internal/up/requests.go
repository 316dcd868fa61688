// How many requests the API server has answered, from its own metrics.
package up

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

var label = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)

// requests returns a JSON object: "VERB resource[/subresource]" to the number of requests.
func (l *lab) requests() (string, error) {
	response, err := l.http.Get(apiURL + "/metrics")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("/metrics: %s", response.Status)
	}
	counts := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line, found := strings.CutPrefix(lines.Text(), "apiserver_request_total{")
		if !found {
			continue
		}
		labels, value, _ := strings.Cut(line, "} ")
		key := map[string]string{}
		for _, match := range label.FindAllStringSubmatch(labels, -1) {
			key[match[1]] = match[2]
		}
		name := key["verb"] + " " + key["resource"]
		if key["subresource"] != "" {
			name += "/" + key["subresource"]
		}
		number, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
		if err != nil {
			return "", err
		}
		counts[name] += number
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	text, err := json.Marshal(counts)
	return string(text), err
}
