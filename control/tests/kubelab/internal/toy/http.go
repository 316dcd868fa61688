package toy

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Clients that break off are no news.
var quiet = log.New(io.Discard, "", 0)

// handler answers every request with the Pod's name, but for a few paths.
func handler(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		body := name + "\n"
		switch r.URL.Path {
		case "/client":
			body = r.RemoteAddr + "\n"
		case "/healthz":
			body = "ok\n"
		case "/headers":
			var text strings.Builder
			fmt.Fprintf(&text, "%s %s %s\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Proto, r.Host)
			_ = r.Header.Write(&text)
			body = text.String()
		case "/slow":
			ms, err := strconv.Atoi(r.URL.Query().Get("ms"))
			if err != nil {
				http.Error(w, "/slow?ms=N", http.StatusBadRequest)
				return
			}
			select {
			case <-time.After(time.Duration(ms) * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(w, body)
	})
}
