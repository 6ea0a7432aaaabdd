package gate

import (
	"net/http"
	"strings"
	"testing"

	"github.com/entente-im/entente/wire/session"
)

// ask sends a request as a browser would for a page of an origin.
func (w *world) ask(t *testing.T, method, path, origin string, more map[string]string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, "https://"+w.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	for k, v := range more {
		req.Header.Set(k, v)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp
}

// allowing lists the CORS headers of an answer.
func allowing(h http.Header) (out []string) {
	for k := range h {
		if strings.HasPrefix(k, "Access-Control-") {
			out = append(out, k)
		}
	}
	return out
}

func TestPreflightAllowsTheOperatorsOriginsOnly(t *testing.T) {
	w := start(t, session.Timing{})
	preflight := map[string]string{"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
	for _, path := range []string{AuthPath, "/rpc", "/nowhere"} {
		resp := w.ask(t, http.MethodOptions, path, origin, preflight)
		h := resp.Header
		if resp.StatusCode != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != origin || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") {
			t.Errorf("%s: %d, %v", path, resp.StatusCode, h)
		}
		for _, need := range []string{"Authorization", "Content-Type", "Connect-Protocol-Version"} {
			if !strings.Contains(h.Get("Access-Control-Allow-Headers"), need) {
				t.Errorf("%s: %s may not be sent", path, need)
			}
		}
		if h.Get("Vary") != "Origin" || h.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %v", path, h)
		}
		for _, o := range []string{"https://evil.example", "http://app.example", "https://app.example:444", "https://app.example.evil.example", "null", "*"} {
			resp := w.ask(t, http.MethodOptions, path, o, preflight)
			if resp.StatusCode != http.StatusForbidden || len(allowing(resp.Header)) > 0 || resp.Header.Get("Vary") != "Origin" {
				t.Errorf("%s from %s: %d, %v", path, o, resp.StatusCode, resp.Header)
			}
		}
	}
}

func TestAnswersAreReadableByAllowedOriginsOnly(t *testing.T) {
	w := start(t, session.Timing{})
	for o, readable := range map[string]bool{origin: true, "https://evil.example": false, "null": false, "": false} {
		resp := w.ask(t, http.MethodPost, "/rpc", o, nil) // without a token: an error that the page must be able to read
		if resp.StatusCode != http.StatusUnauthorized || (resp.Header.Get("Access-Control-Allow-Origin") == o && o != "") != readable || !readable && len(allowing(resp.Header)) > 0 {
			t.Errorf("%q: %d, %v", o, resp.StatusCode, resp.Header)
		}
	}
}

func TestWithoutOriginsNoPageMayCall(t *testing.T) {
	w := start(t, session.Timing{})
	w.o.Origins = nil // the default
	resp := w.ask(t, http.MethodOptions, "/rpc", origin, map[string]string{"Access-Control-Request-Method": "POST"})
	if resp.StatusCode != http.StatusForbidden || len(allowing(resp.Header)) > 0 {
		t.Errorf("%d, %v", resp.StatusCode, resp.Header)
	}
	// OPTIONS that is no preflight goes where every other request goes.
	if resp := w.ask(t, http.MethodOptions, AuthPath, "", nil); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a plain OPTIONS: %d", resp.StatusCode)
	}
}
