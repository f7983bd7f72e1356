package rest

import (
	"net/http"
	"slices"
	"testing"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestGetTraffic(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.PortURL = func(id sandbox.ID) string { return "https://{port}-" + string(id) + ".box.test" }
	})
	old := decode[types.Sandbox](w, w.want(w.call("POST", "/v1/sandboxes", "{}"), http.StatusCreated))
	got := decode[types.Traffic](w, w.want(w.call("GET", "/v1/sandboxes/"+old.ID+"/traffic", ""), http.StatusOK))
	if got.Token != nil || got.AccessToken != nil || got.PublicPorts == nil || len(got.PublicPorts) != 0 || got.HTTPSPorts == nil {
		t.Errorf("without a key: %+v, want no token and no ports", got)
	}
	if got.URL == nil || *got.URL != "https://{port}-"+old.ID+".box.test" {
		t.Errorf("url: %v", got.URL)
	}
	w.fake.rows[0].Spec.TrafficKey, w.fake.rows[0].Spec.PublicPorts = "key", []int{80}
	got = decode[types.Traffic](w, w.want(w.call("GET", "/v1/sandboxes/"+old.ID+"/traffic", ""), http.StatusOK))
	if want := w.fake.rows[0].Spec.TrafficToken(sandbox.ID(old.ID)); got.Token == nil || *got.Token != want || !slices.Equal(got.PublicPorts, []int{80}) {
		t.Errorf("with a key: %+v, want the token %s and port 80", got, want)
	}
	if want := w.fake.rows[0].Spec.EnvdTokenOf(sandbox.ID(old.ID)); got.AccessToken == nil || *got.AccessToken != want {
		t.Errorf("with a key: the access token is %v, want %s", got.AccessToken, want)
	}
	made := decode[types.Sandbox](w, w.want(w.call("POST", "/v1/sandboxes", `{"https_ports":[8443]}`), http.StatusCreated))
	got = decode[types.Traffic](w, w.want(w.call("GET", "/v1/sandboxes/"+made.ID+"/traffic", ""), http.StatusOK))
	if !slices.Equal(got.HTTPSPorts, []int{8443}) {
		t.Errorf("https_ports: %v, want those of the create", got.HTTPSPorts)
	}
	w.want(w.call("GET", "/v1/sandboxes/nosuchsandbox/traffic", ""), http.StatusNotFound)
	for _, body := range []string{`{"public_ports":80}`, `{"public_ports":["80"]}`, `{"public_ports":[0]}`, `{"https_ports":[49983]}`, `{"https_ports":8443}`} {
		w.want(w.call("POST", "/v1/sandboxes", body), http.StatusBadRequest)
	}
}
