// Command wrenn-jail turns itself into a confined VMM process. It is embedded
// in wrenn and not for use by hand; see internal/host/vmm/jail.
package main

import "github.com/wrenn-dev/wrenn/internal/host/vmm/jail"

func main() { jail.Main() }
