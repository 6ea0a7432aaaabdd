package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/directory"
	"github.com/entente-im/entente/node/gate"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
	"github.com/entente-im/entente/wire/session"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// doors are the listeners of a node: devices over HTTPS, operators over a unix
// socket, monitoring over HTTP when it is wanted.
type doors struct{ list []door }

type door struct {
	name   string
	server *http.Server
	listen net.Listener
}

func (d *doors) add(name string, s *http.Server, l net.Listener) {
	d.list = append(d.list, door{name, s, l})
}

// serve starts every door.
func (d *doors) serve(start func(string, func(context.Context) error)) {
	for _, x := range d.list {
		start(x.name, func(context.Context) error {
			var err error
			if x.server.TLSConfig != nil {
				err = x.server.ServeTLS(x.listen, "", "")
			} else {
				err = x.server.Serve(x.listen)
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		})
	}
}

// shut lets calls in flight finish, at most until ctx ends.
func (d *doors) shut(ctx context.Context) {
	for _, x := range d.list {
		if x.server.Shutdown(ctx) != nil {
			_ = x.server.Close()
		}
		_ = x.listen.Close()
	}
}

func (n *Node) openDoors(o Options, keys *identity.NodeKeys, registry *prometheus.Registry) error {
	n.apiURL = n.config.apiURL()
	n.apiHost = n.apiURL[len("https://"):]
	var err error
	n.gate, err = gate.New(gate.Options{Key: keys.Peer, HMACKey: keys.Auth[:], Directory: n.dir, Origins: n.config.Origins, Proxies: n.config.proxies(),
		Clock: n.clock.Now, Logger: n.log, Backend: n.openSession})
	if err != nil {
		return err
	}
	n.metrics = newMetrics(registry, func() float64 { return float64(n.gate.Sessions()) })
	if err := n.openDeviceDoor(o, keys); err != nil {
		return err
	}
	if err := n.openOperatorDoor(o); err != nil {
		return err
	}
	return n.openMetricsDoor(o, registry)
}

// openSession is the gate's Backend: it works until the session's ctx ends.
func (n *Node) openSession(ctx context.Context, device wire.DeviceID) (session.Backend, error) {
	if n.stopping.Err() != nil {
		return nil, wire.Refuse(pb.Code_CODE_SHUTTING_DOWN, "")
	}
	n.noteSeen(device)
	s := n.newDeviceSession(device)
	n.work.Go(func() { s.run(ctx) })
	return s, nil
}

func (n *Node) openDeviceDoor(o Options, keys *identity.NodeKeys) error {
	config, err := n.tls(o.Dir, keys)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	n.gate.Mount(mux)
	mux.Handle(ententev1connect.NewEnrolmentServiceHandler(enrolmentAPI{n}, n.handlerOptions()...))
	path, calls := ententev1connect.NewDeviceServiceHandler(deviceAPI{n}, n.handlerOptions()...)
	mux.Handle(path, n.gate.Bearer(calls))
	n.healthHandlers(mux)
	l, err := o.Listen("tcp", n.config.Listen)
	if err != nil {
		return fmt.Errorf("node: listening for devices: %w", err)
	}
	n.doors.add("devices", gate.Server(n.gate.CORS(mux), config, n.log.With("door", "devices")), l)
	return nil
}

// tls makes the configuration of the devices' door.
func (n *Node) tls(dir string, keys *identity.NodeKeys) (*tls.Config, error) {
	switch c := n.config; {
	case c.TLSCert != "":
		web, err := gate.FromFiles(c.TLSCert, c.TLSKey, n.log)
		if err != nil {
			return nil, err
		}
		return gate.TLS(keys.Peer, web)
	case len(c.ACME) > 0:
		web, prepare, err := gate.FromACME(gate.ACME{Names: c.ACME, Email: c.ACMEEmail, Directory: c.ACMEServer,
			Folder: filepath.Join(dir, ACMEFolder), Secret: keys.Auth[:]})
		if err != nil {
			return nil, err
		}
		config, err := gate.TLS(keys.Peer, web)
		if err == nil {
			prepare(config)
		}
		return config, err
	}
	return gate.TLS(keys.Peer, nil)
}

func (n *Node) openOperatorDoor(o Options) error {
	l, err := o.Listen("unix", filepath.Join(o.Dir, OperatorSocket))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(ententev1connect.NewOperatorServiceHandler(operatorAPI{n}, n.handlerOptions()...))
	n.doors.add("operator", gate.Server(mux, nil, n.log.With("door", "operator")), l)
	return nil
}

func (n *Node) openMetricsDoor(o Options, registry *prometheus.Registry) error {
	if n.config.Metrics == "" {
		return nil
	}
	l, err := o.Listen("tcp", n.config.Metrics)
	if err != nil {
		return fmt.Errorf("node: listening for monitoring: %w", err)
	}
	mux := http.NewServeMux()
	n.healthHandlers(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	n.doors.add("metrics", gate.Server(mux, nil, n.log.With("door", "metrics")), l)
	return nil
}

// healthHandlers answer who watches the node: healthz as long as it serves, readyz
// when there is nothing that keeps it from working.
func (n *Node) healthHandlers(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		problems := n.problems()
		if !n.ready.Load() {
			problems = append(problems, "starting or stopping")
		}
		if len(problems) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		for _, p := range problems {
			fmt.Fprintln(w, p)
		}
		if len(problems) == 0 {
			fmt.Fprintln(w, "ready")
		}
	})
}

// enroll checks what a link's holder hands over and redeems the link.
func (n *Node) enroll(ctx context.Context, m *pb.EnrollRequest) (*pb.MemberChain, error) {
	if err := n.records(ctx); err != nil {
		return nil, err
	}
	if len(m.Secret) != wire.DefaultLinkSecretLen {
		return nil, wire.Refuse(pb.Code_CODE_LINK_UNKNOWN, "")
	}
	if len(m.KeyPackages) > 0 {
		return nil, wire.Refuse(pb.Code_CODE_UNSUPPORTED, "KeyPackages are published after enrolment")
	}
	var keep func()
	chain, err := n.dir.Enroll(ctx, directory.Enrolment{Secret: [32]byte(m.Secret), Genesis: m.Genesis, Reset: m.Reset_, Device: m.Device}, n.numberFor(&keep))
	if err != nil {
		return nil, err
	}
	if keep != nil {
		keep()
	}
	return chain, nil
}

// handlerOptions adds to those of every call that what the node failed at is in its log:
// the caller is told no more than that.
func (n *Node) handlerOptions() []connect.HandlerOption {
	return append(gate.HandlerOptions(), connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
			a, err := next(ctx, r)
			if err != nil && ctx.Err() == nil && connect.CodeOf(err) == connect.CodeInternal { // a caller that has left is no failure
				n.log.Error("a call failed", "call", r.Spec().Procedure, "error", session.Cause(err))
			}
			return a, err
		}
	})))
}
