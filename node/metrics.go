package node

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the node itself; store, mailbox, federation and gate have theirs.
type metrics struct {
	submitted *prometheus.CounterVec // by status
	received  *prometheus.CounterVec // by status
	sessions  prometheus.GaugeFunc
}

func newMetrics(r prometheus.Registerer, sessions func() float64) metrics {
	m := metrics{
		submitted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "entente_node_submitted_total", Help: "Submissions of devices, by status."}, []string{"status"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "entente_node_received_total", Help: "Items of partners, by status."}, []string{"status"}),
		sessions: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "entente_node_sessions", Help: "Devices that are connected."}, sessions),
	}
	r.MustRegister(m.submitted, m.received, m.sessions)
	return m
}
