package image

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// debianKeyring is where debian-archive-keyring puts the archive's keys, on
// Debian and on Ubuntu.
const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// Archive says where Debian packages come from. Signatures are checked
// for every source.
type Archive struct {
	// Mirror is the URL of the main archive. Empty means the mirror that the
	// host's apt uses for Debian, or Debian's own where it uses none.
	Mirror string
	// Security is the URL of the security archive. Empty with a Mirror means
	// Mirror with "-security" added, which is how Debian's mirrors name it.
	Security string
}

// lines returns apt sources for suite with its updates and security
// updates, or nothing: then mmdebstrap takes the mirrors it knows.
func (a Archive) lines(suite string) []string {
	if a.Mirror == "" {
		return nil
	}
	if a.Security == "" {
		a.Security = strings.TrimSuffix(a.Mirror, "/") + "-security"
	}
	signed := "[signed-by=" + debianKeyring + "] "
	return []string{
		"deb " + signed + a.Mirror + " " + suite + " main",
		"deb " + signed + a.Mirror + " " + suite + "-updates main",
		"deb " + signed + a.Security + " " + suite + "-security main",
	}
}

// hostArchive returns the Debian mirrors in the apt configuration under
// aptDir, usually /etc/apt; the zero Archive if it has none.
func hostArchive(aptDir string) Archive {
	var found Archive
	note := func(uris, suites []string) {
		for _, uri := range uris {
			uri, ok := mirrorURL(uri)
			for _, suite := range suites {
				codename, pocket, _ := strings.Cut(suite, "-")
				switch {
				case !ok || !debianSuites[codename]:
				case pocket == "" && found.Mirror == "":
					found.Mirror = uri
				case pocket == "security" && found.Security == "":
					found.Security = uri
				}
			}
		}
	}
	eachSource(aptDir, note)
	if found.Mirror == "" {
		return Archive{}
	}
	return found
}

// HostMirror returns the Debian mirror of the apt configuration under aptDir,
// usually /etc/apt, or nothing.
func HostMirror(aptDir string) string { return hostArchive(aptDir).Mirror }

// HasSuite reports whether the apt configuration under aptDir has a source for
// a suite such as bookworm-backports.
func HasSuite(aptDir, suite string) bool {
	found := false
	eachSource(aptDir, func(_, suites []string) { found = found || slices.Contains(suites, suite) })
	return found
}

// eachSource calls note with every source of the apt configuration under
// aptDir.
func eachSource(aptDir string, note func(uris, suites []string)) {
	oneLine, _ := filepath.Glob(filepath.Join(aptDir, "sources.list.d", "*.list"))
	for _, path := range append([]string{filepath.Join(aptDir, "sources.list")}, oneLine...) {
		parseOneLine(path, note)
	}
	deb822, _ := filepath.Glob(filepath.Join(aptDir, "sources.list.d", "*.sources"))
	for _, path := range deb822 {
		parseDeb822(path, note)
	}
}

// debianSuites are the names by which a sources file means Debian. Ubuntu's
// share none of them.
var debianSuites = map[string]bool{
	"bullseye": true, "bookworm": true, "trixie": true, "forky": true, "sid": true,
	"stable": true, "oldstable": true, "testing": true, "unstable": true,
}

// mirrorURL returns the http address of a source, following the list files
// that Debian's cloud images use (apt-transport-mirror(1)).
func mirrorURL(uri string) (string, bool) {
	if path, ok := strings.CutPrefix(uri, "mirror+file:"); ok {
		list, err := os.ReadFile("/" + strings.TrimLeft(path, "/"))
		if err != nil {
			return "", false
		}
		first, _, _ := strings.Cut(string(list), "\n")
		uri, _, _ = strings.Cut(strings.TrimSpace(first), "\t")
	}
	ok := strings.HasPrefix(uri, "http://") || strings.HasPrefix(uri, "https://")
	return strings.TrimSuffix(uri, "/"), ok
}

// parseOneLine reads "deb [options] URI SUITE COMPONENT..." lines
// (sources.list(5)). A file that cannot be read has none.
func parseOneLine(path string, note func(uris, suites []string)) {
	data, _ := os.ReadFile(path)
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if !strings.HasPrefix(line, "deb ") && !strings.HasPrefix(line, "deb\t") {
			continue
		}
		rest := strings.TrimSpace(line[3:])
		if strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		if f := strings.Fields(rest); len(f) >= 3 {
			note(f[:1], f[1:2])
		}
	}
}

// parseDeb822 reads stanzas with Types, URIs and Suites (sources.list(5)). A
// file that cannot be read has none.
func parseDeb822(path string, note func(uris, suites []string)) {
	data, _ := os.ReadFile(path)
	for _, stanza := range strings.Split(string(data), "\n\n") {
		fields := map[string][]string{}
		for _, line := range strings.Split(stanza, "\n") {
			if key, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
				fields[strings.ToLower(key)] = strings.Fields(value)
			}
		}
		if disabled := fields["enabled"]; len(disabled) == 1 && disabled[0] == "no" {
			continue
		}
		for _, kind := range fields["types"] {
			if kind == "deb" {
				note(fields["uris"], fields["suites"])
			}
		}
	}
}

// acquireOptions returns those of the host's apt settings that say how to
// reach an archive (proxies, retries, clock checks), as apt.conf(5) text,
// from the output of "apt-config dump".
func acquireOptions(dump string) string {
	var out strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(dump)); lines.Scan(); {
		line := lines.Text()
		for _, prefix := range []string{
			"Acquire::http", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIPv",
		} {
			if strings.HasPrefix(line, prefix) && !strings.HasSuffix(line, ` "";`) {
				out.WriteString(line + "\n")
			}
		}
	}
	out.WriteString("Acquire::Languages \"none\";\n")
	return out.String()
}
