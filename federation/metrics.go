package federation

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a federation. No label holds a partner's name: agreements may be many,
// and who deals with whom is not for a metrics page.
type metrics struct {
	sent      *prometheus.CounterVec // items by what the partner answered
	received  *prometheus.CounterVec // items by what we answered
	queries   *prometheus.CounterVec // by direction and status
	attempts  *prometheus.CounterVec // to link, by outcome
	streams   *prometheus.CounterVec // inbound, that ended badly
	refused   *prometheus.CounterVec // connections and streams at the door
	tokens    *prometheus.CounterVec // partner tokens, by outcome
	gossip    *prometheus.CounterVec // heads heard of, by what became of them
	connected prometheus.Gauge       // links that are up
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "entente", Subsystem: "federation", Name: name, Help: help}, labels)
	}
	m := &metrics{
		sent:     vec("items_sent_total", "Items that partners answered, by status.", "status"),
		received: vec("items_received_total", "Items that partners sent, by our status.", "status"),
		queries:  vec("queries_total", "Questions, by direction and status.", "direction", "status"),
		attempts: vec("link_attempts_total", "Attempts to link with a partner, by outcome.", "outcome"),
		streams:  vec("streams_failed_total", "Inbound streams that ended badly.", "protocol", "reason"),
		refused:  vec("refused_total", "Connections and streams refused at the door.", "reason"),
		tokens:   vec("tokens_total", "Partner tokens shown to this node, by outcome.", "outcome"),
		gossip:   vec("gossip_total", "Messages of the network of heads, by outcome.", "outcome"),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "entente", Subsystem: "federation",
			Name: "links", Help: "Partners that a link is up to."}),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.sent, m.received, m.queries, m.attempts, m.streams, m.refused, m.tokens, m.gossip, m.connected} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("federation: metrics: %w", err)
	}
	return m, nil
}
