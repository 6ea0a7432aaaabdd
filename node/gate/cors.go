package gate

import (
	"net/http"
	"slices"
)

// What a page of an allowed origin may send and read: sign-in and Connect calls.
// Credentials are never allowed: a node knows no cookies.
const (
	corsMethods = "GET, POST"
	corsHeaders = "Authorization, Connect-Protocol-Version, Connect-Timeout-Ms, Content-Type"
	corsExposed = "WWW-Authenticate, Authentication-Info"
	corsMaxAge  = "7200" // seconds; browsers take no more
)

// CORS lets pages of the allowed origins call (Fetch Standard §3.2); without any, and
// for all others, it adds nothing and refuses the preflight. What a call may do is
// decided by its token as ever: this only tells browsers whom to hand the answers to.
func (g *Gate) CORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		allowed := origin != "" && slices.Contains(g.o.Origins, origin)
		w.Header().Add("Vary", "Origin")
		if allowed {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Expose-Headers", corsExposed)
		}
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			next.ServeHTTP(w, r)
			return
		}
		if !allowed {
			http.Error(w, "this origin may not call", http.StatusForbidden)
			return
		}
		w.Header().Set("Access-Control-Allow-Methods", corsMethods)
		w.Header().Set("Access-Control-Allow-Headers", corsHeaders)
		w.Header().Set("Access-Control-Max-Age", corsMaxAge)
		w.WriteHeader(http.StatusNoContent)
	})
}
