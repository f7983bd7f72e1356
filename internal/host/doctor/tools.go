package doctor

import (
	"os/exec"
	"path/filepath"
)

// tools are the programs that images and disks are made with. Only mke2fs is
// needed once the images and the data's file system are there.
var tools = []struct {
	program, pkg, use string
	missing           Status
}{
	{"mke2fs", "e2fsprogs", "makes the writable disk of each sandbox", Fail},
	{"mkfs.xfs", "xfsprogs", "makes a file system whose files share blocks (--data-fs xfs)", Warn},
	{"mmdebstrap", "mmdebstrap", "builds templates", Warn},
	{"mkfs.erofs", "erofs-utils", "builds templates, and the image of the guest agent for gVisor", Warn},
}

// systemBins are looked at too: a user's PATH often has no sbin.
var systemBins = []string{"/usr/sbin", "/sbin"}

func checkTools() []Check {
	checks := make([]Check, len(tools))
	for i, t := range tools {
		checks[i] = Check{Name: t.program, Status: OK}
		path := find(t.program)
		if path == "" {
			checks[i] = Check{Name: t.program, Status: t.missing, Found: "not found", Detail: t.use, Fix: install(t.pkg)}
			continue
		}
		checks[i].Found = path
	}
	return checks
}

func find(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, dir := range systemBins {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	return ""
}

// postgresBins is where Debian and Ubuntu put the server's programs, which are
// not in anybody's PATH.
const postgresBins = "/usr/lib/postgresql/*/bin/postgres"

func checkPostgres() Check {
	c := Check{Name: "postgresql", Status: OK}
	if found, err := filepath.Glob(postgresBins); err == nil && len(found) > 0 {
		c.Found = filepath.Dir(found[len(found)-1])
		return c
	}
	if path := find("postgres"); path != "" {
		c.Found = filepath.Dir(path)
		return c
	}
	c.Status, c.Found = Fail, "no server programs"
	c.Detail = "`wrenn up` runs a server of its own unless DATABASE_URL names one"
	c.Fix = install("postgresql")
	return c
}
