package e2b

import (
	"net/http"
	"regexp"
	"strconv"
)

// sdkAgent finds the version of a client in its User-Agent.
var sdkAgent = regexp.MustCompile(`(?:^|\s)e2b-(?:js|python)-sdk/(\d{1,6})\.(\d{1,6})`)

// startsAsRoot reports whether the client of r is older than 2.3: the steps of its builds
// begin as root, and its sandboxes have the standard user and directory, not those of
// the steps. Callers that are no client count as new.
func startsAsRoot(r *http.Request) bool {
	found := sdkAgent.FindStringSubmatch(r.UserAgent())
	if found == nil {
		return false
	}
	major, _ := strconv.Atoi(found[1]) // digits only
	minor, _ := strconv.Atoi(found[2])
	return major < 2 || major == 2 && minor < 3
}
