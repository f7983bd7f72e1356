package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

// testBadInput sends faulty requests, which are refused in one shape and change nothing,
// neither the rows nor the VMs. No other test may run meanwhile.
func testBadInput(t *testing.T, s *server) {
	running := "/v1/sandboxes/" + create(t, s.Client, small).ID
	const (
		all     = "/v1/sandboxes"
		unknown = "/v1/sandboxes/aaaaaaaaaaaaaaaaaaaaaaaa"
	)
	hosts, err := s.Hosts(t.Context())
	check(t, err)
	limits := hosts[0].Limits
	cpus, memory := fmt.Sprint("vcpus must be from 1 to ", limits.MaxVCPUs), fmt.Sprint("memory_mb must be from ", limits.MinMemoryMB, " to ", limits.MaxMemoryMB)
	before := snapshot(t, s)
	for _, c := range []struct {
		method, path string
		body         any
		status       int
		code         string
		message      string
	}{
		{"POST", all, `{"template":"nosuch"}`, 400, "template_not_found", "minimal"},
		{"POST", all, `{"template":"../../etc"}`, 400, "invalid_template", ""},
		{"POST", all, `{"template":"/minimal"}`, 400, "invalid_template", ""},
		{"POST", all, fmt.Sprintf(`{"vcpus":%d}`, limits.MaxVCPUs+1), 400, "invalid_vcpus", cpus},
		{"POST", all, `{"vcpus":0}`, 400, "invalid_vcpus", ""},
		{"POST", all, `{"memory_mb":1}`, 400, "invalid_memory", memory},
		{"POST", all, fmt.Sprintf(`{"memory_mb":%d}`, limits.MaxMemoryMB+1), 400, "invalid_memory", memory},
		{"POST", all, `{"disk_mb":1}`, 400, "invalid_disk", ""},
		{"POST", all, `{"timeout_sec":-1}`, 400, "invalid_timeout", ""},
		{"POST", all, `{"vcpus":"two"}`, 400, "invalid_type", "vcpus"},
		{"POST", all, `{"vcpu":1}`, 400, "unknown_field", "vcpu"},
		{"POST", all, `{`, 400, "invalid_json", ""},
		{"POST", all, `{"env":{"A":"` + strings.Repeat("x", 2<<20) + `"}}`, 413, "body_too_large", ""},
		{"POST", all, fmt.Sprintf(`{"memory_mb":%d}`, limits.MaxMemoryMB), 503, "no_capacity", ""},
		{"GET", all + "?status=alive", nil, 400, "invalid_status", ""},
		{"GET", unknown, nil, 404, "sandbox_not_found", ""},
		{"GET", all + "/NOT-AN-ID", nil, 404, "sandbox_not_found", ""},
		{"DELETE", unknown, nil, 404, "sandbox_not_found", ""},
		{"POST", unknown + "/pause", nil, 404, "sandbox_not_found", ""},
		{"POST", unknown + "/exec", `{"cmd":"true"}`, 404, "sandbox_not_found", ""},
		{"POST", running + "/resume", nil, 409, "sandbox_not_paused", ""},
		{"POST", running + "/exec", `{}`, 400, "invalid_cmd", "cmd"},
		{"POST", running + "/exec", `{"cmd":"a\u0000b"}`, 400, "invalid_cmd", "NUL"},
		{"POST", running + "/exec", `{"cmd":"true","cwd":"tmp"}`, 400, "invalid_cwd", ""},
		{"POST", running + "/exec", `{"cmd":"true","user":"nosuchuser"}`, 400, "unknown_user", ""},
		{"POST", running + "/exec", `{"cmd":"true","cwd":"/nosuch"}`, 400, "invalid_cwd", ""},
		{"POST", running + "/exec", `{"cmd":"true","timeout_sec":0}`, 400, "invalid_timeout", ""},
		{"POST", running + "/files/read", `{"path":"etc/passwd"}`, 400, "invalid_path", "absolute"},
		{"POST", running + "/files/read", `{"path":"/a\u0000b"}`, 400, "invalid_path", "NUL"},
		{"POST", running + "/files/read", `{}`, 400, "invalid_path", "required"},
		{"PUT", running + "/files?path=/root/x&mode=999", "x", 400, "invalid_mode", ""},
		{"POST", running + "/files/write", `{}`, 415, "unsupported_media_type", ""},
		{"GET", "/v1/nothing", nil, 404, "route_not_found", ""},
		{"PATCH", all, `{}`, 405, "method_not_allowed", ""},
	} {
		a := call(t, s.Client, c.method, c.path, c.body)
		name := fmt.Sprintf("%s %s %.60v", c.method, c.path, c.body)
		t.Run(name, func(t *testing.T) {
			if message := a.wantError(t, c.status, c.code); !strings.Contains(message, c.message) {
				t.Errorf("the message %q does not say %q", message, c.message)
			}
			if c.status == 503 && a.header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			if c.status == 405 && a.header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
		})
	}
	call(t, s.Client, "POST", all, "{}", "Content-Type", "application/x-www-form-urlencoded").wantError(t, 415, "unsupported_media_type")
	if after := snapshot(t, s); after != before {
		t.Errorf("it changed something:\n%s\n%s", before, after)
	}
}

// snapshot lists the present sandboxes and VM processes.
func snapshot(t *testing.T, s *server) string {
	t.Helper()
	page, err := s.List(t.Context(), client.ListOptions{})
	check(t, err)
	var all []string
	for _, sb := range page.Sandboxes {
		all = append(all, fmt.Sprintf("%s %s vm=%d", sb.ID, sb.Status, vmOf(s.dir, sb.ID)))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}
