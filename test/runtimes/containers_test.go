package runtimes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// containerConfig is the config.json of a container that counts in a file of the directory
// /srv/out below its name. Its arguments are that name twice, and additional members of
// "linux" and of its list of namespaces.
const containerConfig = `{
"ociVersion": "1.0.0", "hostname": "%[1]s",
"process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
	"args": ["/bin/sh", "-c", "n=0; while :; do n=$((n+1)); echo $n >/out/new; busybox mv /out/new /out/n; busybox sleep 0.05; done"],
	"env": ["PATH=/bin"]},
"root": {"path": "rootfs"},
"mounts": [
	{"destination": "/proc", "type": "proc", "source": "proc"},
	{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
	{"destination": "/out", "type": "bind", "source": "/srv/out/%[1]s", "options": ["rbind", "rw"]}],
"linux": {%[2]s
	"namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"}, {"type": "mount"}%[3]s]}
}`

// rootlessMaps are the ids of a rootless container: root is the user, and the others are
// from his range in /etc/subuid and /etc/subgid.
const rootlessMaps = `
	"uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100000, "size": 65536}],
	"gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100000, "size": 65536}],`

// TestContainersRun: the guest's kernel has the features that container engines, VPN
// clients and file systems in user space need. Containers of root and of an unprivileged
// user continue after a pause, which a process that waits for a frozen file system in user
// space does not hinder.
func TestContainersRun(t *testing.T) {
	a := newAgent(t, "wrtc")
	template := hosttest.Containers(t)
	ref := sandbox.Ref{ID: sandbox.NewID(), Generation: 1}
	_, err := a.Create(t.Context(), ref, sandbox.Spec{Template: template, MemoryMB: 256, DiskMB: 512, Runtime: sandbox.RuntimeMicroVM}.WithDefaults())
	check(t, err)

	for _, part := range []struct{ what, script, want string }{
		{"devices", `stat -c '%a' /dev/fuse /dev/net/tun /usr/bin/newuidmap /usr/bin/fusermount3 | tr '\n' ' '`, "666 666 4755 4755"},
		{"a bridge with a veth pair", `
			ip link add name br0 type bridge && ip addr add 10.88.0.1/24 dev br0 && ip link set br0 up
			ip netns add box && ip link add outer type veth peer name inner netns box && ip link set outer master br0 up
			ip -n box addr add 10.88.0.2/24 dev inner && ip -n box link set inner up
			ip netns exec box busybox ping -c 1 -W 20 10.88.0.1 | grep -o '[0-9]* packets received'`, "1 packets received"},
		{"address translation", `
			iptables -t nat -A POSTROUTING -s 10.88.0.0/24 -m comment --comment test -j MASQUERADE &&
			iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -m addrtype --dst-type LOCAL -j ACCEPT &&
			iptables -t nat -S POSTROUTING | tail -1; iptables-legacy -t nat -S OUTPUT; ls /proc/sys/net/bridge/bridge-nf-call-iptables`,
			"-A POSTROUTING -s 10.88.0.0/24 -m comment --comment test -j MASQUERADE\n-P OUTPUT ACCEPT\n/proc/sys/net/bridge/bridge-nf-call-iptables"},
		{"devices of VPN clients", `
			ip tuntap add dev tun0 mode tun user user && ip link add wg0 type wireguard && ip -br link show type wireguard | cut -c 1-3
			ip -o link show tun0 | grep -o POINTOPOINT`, "wg0\nPOINTOPOINT"},
		{"an overlay", `
			mkdir -p /srv/lower /srv/memory /srv/merged && echo low >/srv/lower/f && mount -t tmpfs tmpfs /srv/memory && mkdir /srv/memory/u /srv/memory/w &&
			mount -t overlay overlay -o lowerdir=/srv/lower,upperdir=/srv/memory/u,workdir=/srv/memory/w /srv/merged && cat /srv/merged/f`, "low"},
		{"an overlay of a user", `su user -c 'unshare -Urm sh -c "mkdir /tmp/m && mount -t tmpfs tmpfs /tmp/m && mkdir /tmp/m/u /tmp/m/w /tmp/m/merged &&
			mount -t overlay overlay -o userxattr,lowerdir=/srv/lower,upperdir=/tmp/m/u,workdir=/tmp/m/w /tmp/m/merged && cat /tmp/m/merged/f"'`, "low"},
		{"a loop device", `truncate -s 8M /srv/image && mke2fs -q /srv/image && mkdir /srv/mnt && mount -o loop /srv/image /srv/mnt && ls /srv/mnt`, "lost+found"},
		{"a file system in user space", `su user -c 'mkdir ~/source ~/fuse && echo hello >~/source/f && bindfs --no-allow-other ~/source ~/fuse && cat ~/fuse/f'`, "hello"},
	} {
		if got, err := a.try(ref, part.script); err != nil || strings.TrimSpace(got) != part.want {
			t.Errorf("%s: got %q, %v, want %q", part.what, got, err, part.want)
		}
	}

	a.sh(ref, "mkdir -p /srv/out/root /srv/out/user /srv/root/rootfs/bin /srv/root/rootfs/dev && cp /bin/busybox /srv/root/rootfs/bin/ && ln -s busybox /srv/root/rootfs/bin/sh && "+
		"cp -a /srv/root /srv/user && mkdir -m 0700 /tmp/run && chown -R user: /srv/user /srv/out/user /tmp/run")
	a.sh(ref, heredoc("/srv/root/config.json", fmt.Sprintf(containerConfig, "root", "", "")))
	a.sh(ref, heredoc("/srv/user/config.json", fmt.Sprintf(containerConfig, "user", rootlessMaps, `, {"type": "user"}`)))
	const run = "crun run -d -b /srv/%[1]s %[1]s </dev/null >/tmp/%[1]s.log 2>&1 || { cat /tmp/%[1]s.log; exit 1; }"
	a.sh(ref, fmt.Sprintf(run, "root"))
	a.sh(ref, "su user -c 'export XDG_RUNTIME_DIR=/tmp/run; "+fmt.Sprintf(run, "user")+"'")
	const owners = `for n in root user; do until [ -e /srv/out/$n/n ]; do sleep 0.05; done; stat -c %u /srv/out/$n/n; done | tr '\n' ' '`
	if got := strings.TrimSpace(a.sh(ref, owners)); got != "0 1000" {
		t.Errorf("the files of the containers belong to the users %q, want 0 and 1000", got)
	}
	a.sh(ref, stopFileSystem)
	a.sh(ref, `su user -c 'setsid sh -c "cat ~/fuse/f >/tmp/read" </dev/null >/dev/null 2>&1 &'
		until pid=$(busybox pidof cat) && grep -q request_wait_answer /proc/$pid/wchan; do sleep 0.05; done`)

	root, user := a.counts(ref)
	if _, err := a.Pause(t.Context(), ref); err != nil {
		t.Fatalf("pause with containers and a process that waits for a file system: %v", err)
	}
	ref.Generation++
	_, err = a.Resume(t.Context(), ref)
	check(t, err)
	a.sh(ref, fmt.Sprintf(`until [ "$(cat /srv/out/root/n)" -gt %d ] && [ "$(cat /srv/out/user/n)" -gt %d ]; do sleep 0.05; done`, root, user))
	if got := a.sh(ref, "cat /tmp/read; echo 0 >/sys/fs/cgroup/user/held/cgroup.freeze; until [ -s /tmp/read ]; do sleep 0.05; done; cat /tmp/read"); got != "hello\n" {
		t.Errorf("the file that a process was reading during the pause: got %q, want hello once its file system runs", got)
	}
}

// stopFileSystem freezes the process of the file system in user space, so that the processes
// that use it wait inside the kernel until it is thawed.
const stopFileSystem = `cd /sys/fs/cgroup/user && mkdir held && busybox pidof bindfs >held/cgroup.procs && echo 1 >held/cgroup.freeze
	until grep -q 'frozen 1' held/cgroup.events; do sleep 0.05; done`

// counts returns the counters of the containers.
func (a agent) counts(ref sandbox.Ref) (root, user int) {
	a.t.Helper()
	out := a.sh(ref, "cat /srv/out/root/n /srv/out/user/n")
	if _, err := fmt.Sscan(out, &root, &user); err != nil {
		a.t.Fatalf("the containers have counted to %q, want two numbers", out)
	}
	return root, user
}

// heredoc is a script that writes text to the file path.
func heredoc(path, text string) string { return "cat >" + path + " <<'EOF'\n" + text + "\nEOF" }
