package oci

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLayersAreApplied compares trees with the rules of the image specification.
func TestLayersAreApplied(t *testing.T) {
	for name, c := range map[string]struct {
		layers [][]tar.Header
		want   string
	}{
		"later wins":                 {[][]tar.Header{{reg("a")}, {text("a", "2")}}, "a=2"},
		"implied parents":            {[][]tar.Header{{reg("a/b/c")}}, "a/ a/b/ a/b/c"},
		"whiteout":                   {[][]tar.Header{{reg("a/b"), reg("a/c")}, {reg("a/.wh.b")}}, "a/ a/c"},
		"whiteout of a directory":    {[][]tar.Header{{reg("a/b/c"), reg("d")}, {reg(".wh.a")}}, "d"},
		"whiteout of nothing":        {[][]tar.Header{{reg("a")}, {reg("b/c/.wh.d"), reg("a/.wh.b")}}, "a"},
		"whiteout after its entry":   {[][]tar.Header{{reg("a/old")}, {reg("a/new"), reg(".wh.a")}}, "a/ a/new"},
		"opaque":                     {[][]tar.Header{{reg("a/b/foo"), reg("a/x")}, {folder("a"), reg("a/.wh..wh..opq"), reg("a/new")}}, "a/ a/new"},
		"opaque at the end":          {[][]tar.Header{{reg("a/b/old"), reg("a/x")}, {reg("a/b/new"), reg("a/.wh..wh..opq")}}, "a/ a/b/ a/b/new"},
		"opaque of this layer only":  {[][]tar.Header{{reg("a/b"), reg("a/.wh..wh..opq")}}, "a/ a/b"},
		"hard link":                  {[][]tar.Header{{reg("a"), hard("b", "a")}}, "a b=a"},
		"hard link below":            {[][]tar.Header{{reg("a")}, {hard("b", "/a")}}, "a b=a"},
		"hard link, then overwrite":  {[][]tar.Header{{text("t2", "1"), hard("t1", "t2"), hard("t3", "t2")}, {text("t1", "2")}}, "t1=2 t2=1 t3=1"},
		"hard link, target removed":  {[][]tar.Header{{text("a", "1"), hard("b", "a")}, {reg(".wh.a")}}, "b=1"},
		"hard link to itself":        {[][]tar.Header{{reg("a"), hard("a", "a")}}, "a"},
		"through a link":             {[][]tar.Header{{folder("usr/lib"), link("lib", "usr/lib")}, {text("lib/x", "1")}}, "lib->usr/lib usr/ usr/lib/ usr/lib/x=1"},
		"through an absolute link":   {[][]tar.Header{{folder("run"), link("var/run", "/run")}, {text("var/run/x", "1")}}, "run/ run/x=1 var/ var/run->/run"},
		"whiteout through a link":    {[][]tar.Header{{reg("usr/lib/x"), link("lib", "/usr/lib")}, {reg("lib/.wh.x")}}, "lib->/usr/lib usr/ usr/lib/"},
		"file becomes a directory":   {[][]tar.Header{{reg("a")}, {folder("a"), reg("a/b")}}, "a/ a/b"},
		"directory becomes a file":   {[][]tar.Header{{reg("a/b/c")}, {reg("a")}}, "a"},
		"directory replaces a link":  {[][]tar.Header{{folder("b"), link("a", "b")}, {folder("a"), reg("a/x")}}, "a/ a/x b/"},
		"link replaces a directory":  {[][]tar.Header{{reg("a/x"), folder("b"), link("a", "b"), text("a/y", "1")}}, "a->b b/ b/y=1"},
		"absolute names":             {[][]tar.Header{{text("/a", "1")}}, "a=1"},
		"devices are left out":       {[][]tar.Header{{{Typeflag: tar.TypeBlock, Name: "sda", Devmajor: 8}, {Typeflag: tar.TypeChar, Name: "null"}}}, ""},
		"pipe":                       {[][]tar.Header{{{Typeflag: tar.TypeFifo, Name: "p", Mode: 0o600}}}, "p!p---------"},
		"marks of other systems":     {[][]tar.Header{{reg(".wh..wh.plnk"), reg("a")}}, "a"},
		"stale directory":            {[][]tar.Header{{reg("a/b/x"), reg("c/b/y"), reg(".wh.q"), link("a", "c"), text("a/b/z", "1")}}, "a->c c/ c/b/ c/b/y c/b/z=1"},
		"links in the place of root": {[][]tar.Header{{link("..x", "/../../.."), text("..x/y", "1")}}, "..x->/../../.. y=1"},
	} {
		var layers [][]byte
		for _, l := range c.layers {
			layers = append(layers, stream(t, l...))
		}
		root, err := apply(t, Limits{}, layers...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := tell(t, root); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestModesAndOwnersAreKept(t *testing.T) {
	root, err := apply(t, Limits{}, stream(t,
		tar.Header{Typeflag: tar.TypeReg, Name: "su", Mode: 0o4755, Uid: 0, Gid: 7},
		tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777, Uid: 5, Gid: 6},
		tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o751},
	))
	check(t, err)
	for name, want := range map[string]struct{ mode, uid, gid uint32 }{
		"su": {unix.S_IFREG | 0o4755, 0, 7}, "tmp": {unix.S_IFDIR | 0o1777, 5, 6}, ".": {unix.S_IFDIR | 0o751, 0, 0},
	} {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(root, name), &st))
		if st.Mode != want.mode || os.Geteuid() == 0 && (st.Uid != want.uid || st.Gid != want.gid) {
			t.Errorf("%s: got mode %o of %d:%d, want %o of %d:%d", name, st.Mode, st.Uid, st.Gid, want.mode, want.uid, want.gid)
		}
	}
}

// TestAttributesAreLeftOut: a file with extended attributes is unpacked without them, because gVisor
// reads no image that has some.
func TestAttributesAreLeftOut(t *testing.T) {
	root, err := apply(t, Limits{}, stream(t, tar.Header{
		Typeflag: tar.TypeReg, Name: "ping", Mode: 0o755, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02"},
	}))
	check(t, err)
	if n, err := unix.Llistxattr(filepath.Join(root, "ping"), nil); n != 0 || err != nil && err != unix.ENOTSUP {
		t.Errorf("the file has attributes of %d bytes, %v; want none", n, err)
	}
	if got := tell(t, root); got != "ping" {
		t.Errorf("got %q, want the file alone", got)
	}
}

// TestHostileLayersStayInside: no layer makes, changes or reads anything outside of the
// tree, and each ends with an error or with names inside.
func TestHostileLayersStayInside(t *testing.T) {
	for name, c := range map[string]struct {
		headers []tar.Header
		reason  string // "" is success
	}{
		"parent":                  {[]tar.Header{reg("../evil")}, "image_damaged"},
		"parent inside":           {[]tar.Header{reg("a/../../evil")}, "image_damaged"},
		"absolute parent":         {[]tar.Header{reg("/../evil")}, "image_damaged"},
		"through a link":          {[]tar.Header{link("l", ".."), reg("l/evil")}, ""},
		"through an absolute one": {[]tar.Header{link("l", "/"), reg("l/evil")}, ""},
		"to the host":             {[]tar.Header{link("l", "OUTSIDE"), reg("l/evil")}, "image_damaged"},
		"over a link":             {[]tar.Header{link("secret", "OUTSIDE/secret"), reg("secret")}, ""},
		"mode through a link":     {[]tar.Header{link("d", "OUTSIDE"), {Typeflag: tar.TypeDir, Name: "d/", Mode: 0o777}}, ""},
		"hard link out":           {[]tar.Header{hard("h", "../secret")}, "image_damaged"},
		"hard link by a link":     {[]tar.Header{link("l", "OUTSIDE"), hard("h", "l/secret")}, "image_damaged"},
		"hard link absolute":      {[]tar.Header{hard("h", "OUTSIDE/secret")}, "image_damaged"},
		"whiteout out":            {[]tar.Header{reg("../.wh.secret")}, "image_damaged"},
		"whiteout by a link":      {[]tar.Header{link("l", "OUTSIDE"), reg("l/.wh.secret")}, ""},
		"opaque by a link":        {[]tar.Header{link("l", "OUTSIDE"), reg("l/.wh..wh..opq")}, ""},
		"whiteout of dots":        {[]tar.Header{reg(".wh..."), reg(".wh.."), reg(".wh.")}, ""},
		"magic link":              {[]tar.Header{link("l", "/proc/self/root"), reg("l/evil")}, "image_damaged"},
		"loop":                    {[]tar.Header{link("l", "l"), reg("l/evil")}, "image_damaged"},
		"long part":               {[]tar.Header{reg(strings.Repeat("x", 256))}, "image_damaged"},
		"deep":                    {[]tar.Header{reg(strings.Repeat("d/", maxDepth) + "f")}, "image_damaged"},
		"deep by links":           {[]tar.Header{folder(strings.Repeat("d/", 200)), link("l", strings.Repeat("d/", 199)), folder("l/" + strings.Repeat("d/", 200)), reg("l/" + strings.Repeat("d/", 199) + "x")}, "image_damaged"},
		"no owner":                {[]tar.Header{{Typeflag: tar.TypeReg, Name: "a", Uid: -1, Format: tar.FormatGNU}}, "image_damaged"},
		"link without a target":   {[]tar.Header{link("l", strings.Repeat("x", 5000))}, "image_damaged"},
	} {
		outside := t.TempDir()
		check(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600))
		check(t, os.Chmod(outside, 0o700))
		root := filepath.Join(outside, "root")
		check(t, os.Mkdir(root, 0o755))
		for n, h := range c.headers {
			c.headers[n].Linkname = strings.ReplaceAll(h.Linkname, "OUTSIDE", outside)
		}
		tree, err := newTree(root, Limits{}.withDefaults(), func() error { return nil })
		check(t, err)
		err = tree.apply(strings.NewReader(string(stream(t, c.headers...))))
		tree.close()
		if err != nil && !isDisk(err) {
			err = asFault(err, func(err error) error { return damaged(err, "x") })
		}
		wantReason(t, name, err, c.reason)
		if got := tell(t, outside); !strings.HasSuffix(got, "secret=s") && !strings.Contains(got, " secret=s") {
			t.Errorf("%s: outside there is %q, want the secret", name, got)
		}
		var st unix.Stat_t
		check(t, unix.Stat(filepath.Join(outside, "secret"), &st))
		check(t, unix.Stat(outside, &st))
		if entries, _ := os.ReadDir(outside); len(entries) != 2 || st.Mode&0o777 != 0o700 {
			t.Errorf("%s: outside there are %v with mode %o, want root and secret with mode 700", name, entries, st.Mode)
		}
	}
}

func TestLimitsOfLayers(t *testing.T) {
	many := func(n int) (all []tar.Header) {
		for i := range n {
			all = append(all, tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("d%d", i), Mode: 0o755})
		}
		return all
	}
	limits := Limits{Entries: 20, Unpacked: 100}
	for name, c := range map[string]struct {
		headers []tar.Header
		reason  string
	}{
		"entries":          {many(20), ""},
		"too many entries": {many(21), "image_too_large"},
		"implied parents":  {[]tar.Header{reg(strings.Repeat("d/", 21) + "f")}, "image_too_large"},
		"bytes":            {[]tar.Header{text("a", strings.Repeat("x", 60)), text("b", strings.Repeat("x", 40))}, ""},
		"too many bytes":   {[]tar.Header{text("a", strings.Repeat("x", 60)), text("a", strings.Repeat("x", 41))}, "image_too_large"},
		"whiteouts":        {append(many(20), reg(".wh.x")), "image_too_large"},
	} {
		_, err := apply(t, limits, stream(t, c.headers...))
		wantReason(t, name, err, c.reason)
	}
}

// TestMillionEntries: a layer of 10^6 empty files ends at the limit.
func TestMillionEntries(t *testing.T) {
	if testing.Short() {
		t.Skip("writes many files")
	}
	h := tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": "c"}}
	all := make([]tar.Header, 0, 5000)
	for range 5000 {
		all = append(all, h)
	}
	layer := stream(t, all...)
	layer = layer[:len(layer)-1024] // without the end marker
	var whole []byte
	for range 4 {
		whole = append(whole, layer...)
	}
	_, err := apply(t, Limits{Entries: 19_999}, append(whole, make([]byte, 1024)...))
	wantReason(t, "20,000 entries", err, "image_too_large")
}
