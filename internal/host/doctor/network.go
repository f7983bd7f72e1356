package doctor

import (
	"fmt"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host/network"
)

// checkHidden looks for names of network namespaces that cannot be removed
// because somebody mounted their directory over.
func checkHidden() Check {
	c := Check{Name: "namespaces", Status: OK, Found: "none is hidden"}
	names, err := network.Hidden()
	switch {
	case err != nil:
		c.Status, c.Found, c.Detail = Warn, "the names of network namespaces cannot be read", err.Error()
	case len(names) > 0:
		c.Status = Warn
		c.Found = fmt.Sprintf("hidden by a mount on /run/netns: %s", strings.Join(names, ", "))
		c.Detail = "an earlier host agent could not remove them; the next start of the agent they belong to does"
		c.Fix = network.UnhideCommand(names)
	}
	return c
}
