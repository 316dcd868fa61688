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
func handler(name string, ending <-chan struct{}) http.Handler {
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
			pause, ok := milliseconds(w, r)
			if !ok {
				return
			}
			select {
			case <-time.After(pause):
			case <-r.Context().Done():
				return
			}
		case "/stream":
			if pause, ok := milliseconds(w, r); ok {
				stream(w, r, body, pause, ending)
			}
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(w, body)
	})
}

// milliseconds reads the query ms=N; without it the request is refused.
func milliseconds(w http.ResponseWriter, r *http.Request) (time.Duration, bool) {
	ms, err := strconv.Atoi(r.URL.Query().Get("ms"))
	if err != nil || ms <= 0 {
		http.Error(w, r.URL.Path+"?ms=N", http.StatusBadRequest)
		return 0, false
	}
	return time.Duration(ms) * time.Millisecond, true
}

// stream sends the line as a chunk again and again, and comes to a clean end when the app does.
func stream(w http.ResponseWriter, r *http.Request, line string, pause time.Duration, ending <-chan struct{}) {
	w.Header().Set("Content-Type", "text/plain")
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		if _, err := io.WriteString(w, line); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ending:
			return
		case <-r.Context().Done():
			return
		}
	}
}
