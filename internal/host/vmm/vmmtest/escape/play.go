package escape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// minProven is how many of the attempts must be shown to work outside.
const minProven = 40

// stood is printed by a player that makes one attempt, before it.
const stood = "stood"

// MaybeChild does the work of a process that this package has started from the
// program of a test, and ends it. In any other process it does nothing.
func MaybeChild() {
	hooked = true
	switch os.Args[0] {
	case "player":
		play(os.Args[1])
		os.Exit(0)
	case "victim":
		beVictim(os.Args[1:])
		os.Exit(0)
	}
}

// hooked: MaybeChild was called. A test that has not done so would run itself again in
// place of the other process.
var hooked bool

// needHook fails a test whose program does not call MaybeChild.
func needHook(t *testing.T) {
	t.Helper()
	if !hooked {
		t.Fatal("TestMain has to call escape.MaybeChild")
	}
}

// Player returns the arguments of a player, a process of a program that calls
// MaybeChild. Its disk has the descriptor w.Disk.
func (w World) Player(t *testing.T) []string { return []string{"player", w.encode(t)} }

// play makes the attempts, each on a thread of its own that ends with it, and
// prints for each why it has failed.
func play(encoded string) {
	var w World
	if err := errors.Join(json.Unmarshal([]byte(encoded), &w), w.Stand.limit()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	signal.Ignore(unix.SIGXFSZ)
	for _, a := range attempts {
		if w.Only != "" && w.Only != a.name {
			continue
		}
		stands, done := make(chan error), make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked
			stands <- w.Stand.take()
			<-stands
			done <- a.try(w)
		}()
		if err := <-stands; err != nil {
			fmt.Fprintln(os.Stderr, "take the stand:", err)
			os.Exit(1)
		}
		if w.Only != "" {
			fmt.Println(stood)
		}
		stands <- nil
		text := ""
		if err := <-done; err != nil {
			text = strings.ReplaceAll(err.Error(), "\n", " ")
			if text == "" {
				text = "failed"
			}
		}
		fmt.Printf("%s\t%s\n", a.name, text)
	}
}

// Outside runs the attempts as root in the host's namespaces.
func Outside(t *testing.T, w World) map[string]string {
	t.Helper()
	needHook(t)
	disk := Disk(t)
	leaked := os.NewFile(uintptr(dup(t, w.Leaked)), "leaked")
	defer leaked.Close()
	w.Disk, w.Leaked = 3, 4
	return Results(t, &exec.Cmd{Path: "/proc/self/exe", Args: w.Player(t), ExtraFiles: []*os.File{disk, leaked}})
}

// Results runs a player and returns, by attempt, why it failed, or "".
func Results(t *testing.T, cmd *exec.Cmd) map[string]string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	check(t, cmd.Start())
	if err := cmd.Wait(); err != nil {
		t.Fatalf("player: %v: %s", err, errs.String())
	}
	got := make(map[string]string)
	for line := range strings.Lines(out.String()) {
		name, res, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		got[name] = res
	}
	return got
}

// Each runs a player for each attempt, with command, and returns the results like
// Results. A player that was killed by its attempt has failed in it.
func Each(t *testing.T, w World, command func(World) *exec.Cmd) map[string]string {
	t.Helper()
	got := make(map[string]string)
	for _, a := range attempts {
		w.Only = a.name
		cmd := command(w)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		first, rest, ok := strings.Cut(string(out), "\n")
		if !ok || first != stood {
			t.Fatalf("player of %q: %v: %s", a.name, err, errs.String())
		}
		_, got[a.name], _ = strings.Cut(strings.TrimSuffix(rest, "\n"), "\t")
		if err != nil {
			got[a.name] = err.Error()
		}
	}
	return got
}

// Judge compares the results of the players inside and outside. All attempts have to
// fail inside but those in allowed, which has the reason for each.
func Judge(t *testing.T, inside, outside map[string]string, allowed map[string]string) {
	t.Helper()
	proven := 0
	for _, a := range attempts {
		res, ok := inside[a.name]
		switch {
		case !ok:
			t.Errorf("%s: the process inside did not get to it", a.name)
		case res == "" && allowed[a.name] == "":
			t.Errorf("%s: works inside", a.name)
		}
		if res, ok := outside[a.name]; ok && res == "" {
			proven++
		} else {
			t.Logf("%s: proves nothing on this machine, because it fails outside too: %s", a.name, res)
		}
	}
	t.Logf("%d attempts, %d of which work outside", len(attempts), proven)
	if proven < minProven {
		t.Errorf("only %d attempts work outside, want %d: the others prove nothing", proven, minProven)
	}
}
