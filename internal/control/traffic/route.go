package traffic

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// form is the way in which a request names its port.
type form int

const (
	byHost form = iota + 1
	byHeaders
	byPath
)

// The headers of E2B's clients.
const (
	headerID   = "E2b-Sandbox-Id"
	headerPort = "E2b-Sandbox-Port"
)

// target is the port that a request is for.
type target struct {
	id   sandbox.ID
	port uint16
	form form
	// caller is set once the request is admitted.
	caller caller
	// prefix is the part of the path that the program does not see; byPath only.
	prefix string
	// host is the Host header for the program; empty is the client's.
	host string
	// tls is set for a port whose program speaks TLS itself.
	tls bool
}

// route returns the target of r. ok is false for a request to the REST API. The error
// is Invalid, with the words of E2B's proxy, for a target that cannot be one.
func (h *Handler) route(r *http.Request) (t target, ok bool, err error) {
	if label, found := h.label(r.Host); found {
		t, err = fromLabel(label)
		return t, true, err
	}
	id, port := r.Header.Get(headerID), r.Header.Get(headerPort)
	switch {
	case id != "" && port != "":
		t, err = parse(id, port, byHeaders)
		return t, true, err
	case id != "" || port != "":
		return t, true, fault.New(fault.Invalid, reasonInvalid, "missing header")
	}
	return fromPath(r.URL.EscapedPath())
}

// label returns the leftmost label of a host below the domain, if it begins as that of
// a port does.
func (h *Handler) label(hostport string) (string, bool) {
	host := hostport
	if name, _, err := net.SplitHostPort(hostport); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	label, found := strings.CutSuffix(host, "."+h.Domain)
	if !found || strings.Contains(label, ".") {
		return "", false
	}
	port, _, found := strings.Cut(label, "-")
	return label, found && port != "" && strings.Trim(port, "0123456789") == ""
}

// fromLabel parses PORT-ID. Old clients append another part, which is ignored.
func fromLabel(label string) (target, error) {
	parts := strings.SplitN(label, "-", 3)
	return parse(parts[1], parts[0], byHost)
}

const (
	pathStart = "/v1/sandboxes/"
	pathPorts = "/ports/"
)

// fromPath parses /v1/sandboxes/ID/ports/PORT/PATH.
func fromPath(path string) (t target, ok bool, err error) {
	rest, ok := strings.CutPrefix(path, pathStart)
	if !ok {
		return t, false, nil
	}
	id, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return t, false, nil
	}
	rest, ok = strings.CutPrefix("/"+rest, pathPorts)
	if !ok {
		return t, false, nil
	}
	port, _, _ := strings.Cut(rest, "/")
	t, err = parse(id, port, byPath)
	t.prefix = pathStart + id + pathPorts + port
	return t, true, err
}

func parse(id, port string, f form) (target, error) {
	parsed, err := sandbox.ParseID(id)
	if err != nil {
		return target{}, fault.Wrap(err, fault.Invalid, reasonInvalid, "Invalid sandbox ID")
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return target{}, fault.Wrap(err, fault.Invalid, reasonInvalid, "Invalid sandbox port")
	}
	return target{id: parsed, port: uint16(number), form: f}, nil
}
