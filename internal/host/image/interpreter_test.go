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
// test's own: the namespaces end with the command. /check has the files of the directory $2.
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
mkdir "$dir/root/check"
cp "$dir"/*.py "$dir/root/check"
exec chroot "$dir/root" "$@"`

// TestInterpreterAdmitsBeforeItReads runs the server of the code interpreter, with the
// programs of a prepared template and without kernels, and sends requests that strangers may send.
func TestInterpreterAdmitsBeforeItReads(t *testing.T) {
	s := realStore(t)
	prepared, err := s.Template(CodeInterpreter().Name)
	if missing := fault.Is(err, fault.NotFound) || os.Geteuid() != 0; missing && !strings.Contains(os.Getenv("WRENN_REQUIRE"), "vm") {
		t.Skip("needs root and 'wrenn image build code-interpreter-v1'")
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"interpreter/server.py", "testdata/interpreter_check.py"} {
		content, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(name)), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", inTemplate, "sh",
		prepared.Path, dir, "python3", "/check/interpreter_check.py", "/check/server.py").CombinedOutput()
	if err != nil {
		t.Errorf("the check of the server: %v\n%s", err, out)
	}
}
