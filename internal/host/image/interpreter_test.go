package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// inTemplate runs its arguments in the root image $1, whose files and network are the
// test's own: the namespaces end with the command. /check has the files of $2/check.
const inTemplate = `set -e
image=$1 dir=$2
shift 2
ip link set lo up
mkdir "$dir/lower" "$dir/changes" "$dir/root"
mount -t erofs -o loop,ro "$image" "$dir/lower"
mount -t tmpfs none "$dir/changes"
mkdir "$dir/changes/upper" "$dir/changes/work"
mount -t overlay -o "lowerdir=$dir/lower,upperdir=$dir/changes/upper,workdir=$dir/changes/work" none "$dir/root"
mount --rbind /dev "$dir/root/dev"
mount -t proc none "$dir/root/proc"
cp -r "$dir/check" "$dir/root/check"
exec chroot "$dir/root" "$@"`

// checkInTemplate runs a check of testdata in Python on files of the code interpreter, with the
// programs of a prepared template. The argument of the check is the first of the files.
func checkInTemplate(t *testing.T, check string, files ...string) {
	t.Helper()
	s := realStore(t)
	prepared, err := s.Template(CodeInterpreter().Name)
	if missing := fault.Is(err, fault.NotFound) || os.Geteuid() != 0; missing && !strings.Contains(os.Getenv("WRENN_REQUIRE"), "vm") {
		t.Skip("needs root and 'wrenn image build code-interpreter-v1'")
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "check"), 0o700); err != nil {
		t.Fatal(err)
	}
	names := []string{filepath.Join("testdata", check)}
	for _, file := range files {
		names = append(names, filepath.Join("interpreter", file))
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "check", filepath.Base(name)), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", inTemplate, "sh",
		prepared.Path, dir, "python3", "/check/"+check, "/check/"+files[0]).CombinedOutput()
	if err != nil {
		t.Fatalf("the check of %s: %v\n%s", files[0], err, out)
	}
	t.Logf("%s", out)
}

// TestInterpreterAdmitsBeforeItReads runs the server of the code interpreter without kernels, and
// sends requests that strangers may send.
func TestInterpreterAdmitsBeforeItReads(t *testing.T) {
	checkInTemplate(t, "interpreter_check.py", "server.py")
}

// TestDriverWithoutTypes runs TypeScript while esbuild works, fails, and does not end.
func TestDriverWithoutTypes(t *testing.T) {
	t.Parallel() // it waits for a limit
	checkInTemplate(t, "driver_check.py", "driver.js")
}

// TestJavaKernel runs the kernel for Java: results, output, errors, variables, interrupts, and
// the end of its process.
func TestJavaKernel(t *testing.T) {
	t.Parallel()
	checkInTemplate(t, "java_check.py", "script_kernel.py", "Driver.java")
}
