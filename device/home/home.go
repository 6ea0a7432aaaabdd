package home

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
	"github.com/entente-im/entente/wire/session"
)

// Options name a home node.
type Options struct {
	URL    string             // https://HOST:PORT
	Pin    wire.DeviceID      // the node's peer ID
	Key    ed25519.PrivateKey // of the device; nil: enrolment only
	WebPKI bool               // the node has a certificate of a web CA; the pin is still checked, in the sign-in
	Origin string             // web origin, in a browser
	Timing session.Timing
	// Detour, if set, is called when sessions begin to go by calls because no WebSocket
	// gets through (why), and when they go by WebSocket again (nil). It must not block.
	Detour func(why error)
	Dial   DialFunc // nil: the machine's network, through its proxy if it has one
}

// DialFunc opens the connection that TLS is spoken on, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Home is a client. Calls may overlap.
type Home struct {
	// Device has every call of DeviceService; it signs in by itself. Nil without a key.
	Device ententev1connect.DeviceServiceClient

	o      Options
	enrol  ententev1connect.EnrolmentServiceClient
	base   *http.Transport // HTTP/2 for calls
	upward *http.Transport // HTTP/1.1 for the session
	auth   *signer

	carrier carrier
}

// maxAnswer bounds one answer: a tree, or a page of a room's log.
const maxAnswer = wire.MaxQueryFrame

// New checks the options; it does not connect.
func New(o Options) (*Home, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || (u.Path != "" && u.Path != "/") || u.User != nil {
		return nil, fmt.Errorf("home: %.100q is not https://HOST:PORT", o.URL)
	}
	if o.Pin.IsZero() {
		return nil, errors.New("home: a pin is needed")
	}
	o.URL = "https://" + u.Host
	h := &Home{o: o, base: transport(o, true), upward: transport(o, false)}
	opts := []connect.ClientOption{connect.WithAcceptCompression("gzip", nil, nil), connect.WithReadMaxBytes(maxAnswer), connect.WithInterceptors(statuses())}
	h.enrol = ententev1connect.NewEnrolmentServiceClient(&http.Client{Transport: h.base, CheckRedirect: noRedirect}, o.URL, opts...)
	if o.Key != nil {
		h.auth, err = newSigner(o, h.base)
		if err != nil {
			return nil, err
		}
		h.Device = ententev1connect.NewDeviceServiceClient(&http.Client{Transport: h.auth, CheckRedirect: noRedirect}, o.URL, opts...)
	}
	return h, nil
}

// Dial is New followed by one sign-in, so that a wrong pin or a revoked device
// shows at once.
func Dial(ctx context.Context, o Options) (*Home, error) {
	h, err := New(o)
	if err != nil {
		return nil, err
	}
	if h.auth != nil {
		if _, err := h.auth.token(ctx, ""); err != nil {
			h.Close()
			return nil, err
		}
	}
	return h, nil
}

// Close drops idle connections. A running session ends with its own context.
func (h *Home) Close() {
	h.base.CloseIdleConnections()
	h.upward.CloseIdleConnections()
}

// noRedirect: a node never sends a device elsewhere.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// statuses turns Connect errors into those of wire.
func statuses() connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
			resp, err := next(ctx, r)
			return resp, session.FromConnect(err)
		}
	}
}

// Describe asks what a link is for.
func (h *Home) Describe(ctx context.Context, linkID []byte) (*pb.DescribeResponse, error) {
	if err := proveNode(ctx, h.o, h.base); err != nil {
		return nil, err
	}
	r, err := h.enrol.Describe(ctx, connect.NewRequest(&pb.DescribeRequest{LinkId: linkID}))
	if err != nil {
		return nil, session.FromConnect(err)
	}
	return r.Msg, nil
}

// Enroll redeems a link. The request holds the secret, so the server proves that it
// holds the pin before it is sent.
func (h *Home) Enroll(ctx context.Context, req *pb.EnrollRequest) (*pb.EnrollResponse, error) {
	if err := proveNode(ctx, h.o, h.base); err != nil {
		return nil, err
	}
	r, err := h.enrol.Enroll(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, session.FromConnect(err)
	}
	return r.Msg, nil
}

// PutLinkMessage leaves a sealed message in a link's slot; GetLinkMessage waits for one
// of the other side, nil when none came in time. Neither needs a sign-in.
func (h *Home) PutLinkMessage(ctx context.Context, m *pb.PutLinkMessageRequest) error {
	_, err := h.enrol.PutLinkMessage(ctx, connect.NewRequest(m))
	return session.FromConnect(err)
}

// GetLinkMessage is described with PutLinkMessage.
func (h *Home) GetLinkMessage(ctx context.Context, m *pb.GetLinkMessageRequest) ([]byte, error) {
	r, err := h.enrol.GetLinkMessage(ctx, connect.NewRequest(m))
	if err != nil {
		return nil, session.FromConnect(err)
	}
	return r.Msg.Message, nil
}
