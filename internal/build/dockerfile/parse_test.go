package dockerfile_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/build/dockerfile"
	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

var update = flag.Bool("update", false, "write the golden files")

// options are those of the golden tests; a first line "# options: JSON" changes them.
func options(t *testing.T, text string) dockerfile.Options {
	t.Helper()
	o := dockerfile.Options{Context: "ctx"}
	first, _, _ := strings.Cut(text, "\n")
	if given, ok := strings.CutPrefix(first, "# options: "); ok {
		if err := json.Unmarshal([]byte(given), &o); err != nil {
			t.Fatalf("options: %v", err)
		}
	}
	return o
}

func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dockerfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("no Dockerfiles: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := dockerfile.Parse(string(text), options(t, string(text)))
			if err != nil {
				t.Fatalf("Parse: %v", err)
			}
			got, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(file, ".dockerfile") + ".json"
			if *update {
				if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	many := "FROM base\n" + strings.Repeat("RUN x\n", plan.MaxSteps+1)
	tests := map[string]struct{ text, want string }{
		"empty":              {"", "Dockerfile:1: "},
		"only a comment":     {"# nothing\n", "Dockerfile:1: "},
		"no FROM":            {"RUN true\n", "Dockerfile:1: "},
		"unknown":            {"FROM a\nRUNN x\n", "Dockerfile:2: unknown instruction: RUNN"},
		"later line":         {"FROM a\n\n\nWORKDIR\n", "Dockerfile:4: "},
		"platform":           {"FROM --platform=linux/arm64 a\n", `Dockerfile:1: the platform "linux/arm64" is not supported`},
		"add of a URL":       {"FROM a\nADD https://example.org/x /x\n", "Dockerfile:2: https://example.org/x cannot be fetched here"},
		"add of git":         {"FROM a\nADD git@github.com:a/b.git /x\n", "cannot be fetched here"},
		"bind mount":         {"FROM a\nRUN --mount=type=bind,source=/x true\n", "Dockerfile:2: a mount of type bind needs a target"},
		"bind of a pattern":  {"FROM a\nRUN --mount=source=*.c,target=/x true\n", "Dockerfile:2: the source of a mount cannot be a pattern"},
		"bind of scratch":    {"FROM a\nRUN --mount=from=scratch,target=/x true\n", "Dockerfile:2: nothing can be copied from scratch"},
		"ssh mount":          {"FROM a\nRUN --mount=type=ssh true\n", "Dockerfile:2: a mount of type ssh is not supported"},
		"host network":       {"FROM a\nRUN --network=host true\n", "Dockerfile:2: --network=host is not supported"},
		"symbolic chmod":     {"FROM a\nCOPY --chmod=u+x a /a\n", "Dockerfile:2: --chmod=u+x is not octal"},
		"insecure":           {"FROM a\nRUN --security=insecure true\n", "Dockerfile:2: "},
		"from itself":        {"FROM a AS x\nCOPY --from=x a b\n", ""}, // x is an image then
		"copy from scratch":  {"FROM a\nCOPY --from=scratch a b\n", "Dockerfile:2: nothing can be copied from scratch"},
		"too many steps":     {many, "there are more than 500 instructions"},
		"too many stages":    {strings.Repeat("FROM a\n", plan.MaxStages+1), "there are more than 32 stages"},
		"too long":           {"FROM a\n#" + strings.Repeat("x", dockerfile.MaxText), "Dockerfile:1: the text is longer"},
		"NUL":                {"FROM a\nRUN \x00\n", "Dockerfile:1: the text contains a NUL"},
		"long command":       {"FROM a\nRUN " + strings.Repeat("x", 40000) + "\\\n" + strings.Repeat("y", 40000) + "\n", "Dockerfile:2: the command is longer"},
		"empty name":         {"FROM a\nENV =x\n", "Dockerfile:2: "},
		"mount of a base":    {"FROM a\nRUN --mount=type=cache,target=$HOME/c true\n", "Dockerfile:2: a mount refers to the variable HOME"},
		"empty base":         {"ARG X\nFROM $X\n", "Dockerfile:2: the base"},
		"bad quote":          {"FROM a\nENV A=\"${B\"\n", "Dockerfile:2: "},
		"heredoc in CMD":     {"FROM a\nCMD <<E\nx\nE\n", "Dockerfile:"},
		"expansion is large": {"FROM scratch\nENV A=" + strings.Repeat("x", 40000) + "\nENV B=$A$A\n", "longer than 65536 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := dockerfile.Parse(tt.text, dockerfile.Options{Context: "ctx"})
			if tt.want == "" {
				if err != nil {
					t.Fatalf("Parse: %v, want no error", err)
				}
				return
			}
			if fault.ReasonOf(err) != dockerfile.Reason || !fault.Is(err, fault.Invalid) {
				t.Fatalf("Parse: %v, want Invalid %s", err, dockerfile.Reason)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse: %q, want it to contain %q", err, tt.want)
			}
		})
	}
}

// TestExpansionsAreBounded expands short texts to long values. The allocations show that the
// bound holds during the expansion.
func TestExpansionsAreBounded(t *testing.T) {
	long := strings.Repeat("x", 60<<10)
	value := "FROM scratch\nENV A=" + long + "\n"
	many := strings.Repeat("$A", 1000)
	sums := value
	for range 70 {
		sums += "WORKDIR /$A\n"
	}
	for name, text := range map[string]string{
		"ENV":              value + "ENV B=" + many,
		"ENV in quotes":    value + "ENV B=\"" + many + "\"",
		"default":          value + "ENV B=${X:-" + many + "}",
		"alternative":      value + "ENV B=" + strings.Repeat("${A:+}", 1000),
		"ARG":              value + "ARG B=" + many,
		"global ARG":       "ARG A=" + long + "\nARG B=" + many + "\nFROM scratch\n",
		"FROM":             "ARG A=" + long + "\nFROM " + many,
		"platform":         "ARG A=" + long + "\nFROM --platform=" + many + " a\n",
		"COPY destination": value + "COPY a /" + many,
		"COPY source":      value + "COPY " + many + " /a",
		"COPY owner":       value + "COPY --chown=" + many + " a /a",
		"COPY from":        value + "COPY --from=" + many + " a /a",
		"WORKDIR":          value + "WORKDIR /" + many,
		"USER":             value + "USER " + many,
		"here-document":    value + "COPY <<E /a\n" + many + "\nE\n",
		"mount":            value + "RUN --mount=type=cache,target=/" + many + " true",
		"replacement":      "FROM scratch\nENV A=" + long[:4000] + " B=" + long[:4000] + "\nENV C=${A//x/$B}\n",
		"nested":           "FROM scratch\nENV A=" + long[:300] + "\nENV C=${A//x/${A//x/${A//x/y}}}\n",
		"two replacements": "FROM scratch\nENV A=" + long[:300] + "\nENV C=${A//x/${A//x/y}}\n",
		"pattern":          value + "ENV B=${A##$A}",
		"all together":     sums,
		"variables": "FROM scratch\nENV" + func() (s string) {
			for i := range plan.MaxVariables + 1 {
				s += fmt.Sprintf(" A%d=", i)
			}
			return s
		}(),
		"environment": "FROM scratch\n" + func() (s string) {
			for i := range 20 {
				s += fmt.Sprintf("ENV A%d=%s\n", i, long)
			}
			return s[:min(len(s), dockerfile.MaxText-20)] + "\n"
		}() + "ENV B=$A0 C=$A1 D=$A2",
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := dockerfile.Parse(text, dockerfile.Options{Context: "ctx"})
			runtime.ReadMemStats(&after)
			if fault.ReasonOf(err) != dockerfile.Reason {
				t.Errorf("Parse: %v, want %s", err, dockerfile.Reason)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 100<<20 {
				t.Errorf("Parse allocated %d MB, want at most 100", n>>20)
			}
		})
	}
	// Usual words with patterns.
	_, err := dockerfile.Parse("FROM scratch\nENV A=1.2.3 B=4.5\nENV C=${A//./-}_${B/./-} D=${A%.*}\nWORKDIR /$C/$D\n", dockerfile.Options{})
	if err != nil {
		t.Errorf("short words with patterns: %v", err)
	}
}

func TestMissingTargetAndContext(t *testing.T) {
	if _, err := dockerfile.Parse("FROM a\n", dockerfile.Options{Target: "x"}); fault.ReasonOf(err) != dockerfile.Reason {
		t.Errorf("a missing target: %v", err)
	}
	if _, err := dockerfile.Parse("FROM a\nCOPY . .\n", dockerfile.Options{}); err == nil || !strings.Contains(err.Error(), "Dockerfile:2:") {
		t.Errorf("COPY without a context: %v", err)
	}
}

func TestExpandStep(t *testing.T) {
	p, err := dockerfile.Parse("FROM a\nARG V=7\nENV PATH=/opt/$V:$PATH X='$PATH' Y=${Z:-d}\nWORKDIR $HOME/w\nCOPY <<E $HOME/\n$PATH \"q\"\nE\n", dockerfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	env := []plan.Variable{{Name: "PATH", Value: "/bin"}, {Name: "HOME", Value: "/h"}, {Name: "V", Value: "8"}}
	var got []plan.Step
	for _, s := range p.Stages[0].Steps {
		before := s.Deferred
		out, err := dockerfile.ExpandStep(s, env)
		if err != nil {
			t.Fatal(err)
		}
		if s.Deferred != before || before == nil {
			t.Errorf("step %s: deferred %v, want it deferred and unchanged", s.Text, s.Deferred)
		}
		got = append(got, out)
	}
	want := []plan.Variable{{Name: "PATH", Value: "/opt/8:/bin"}, {Name: "X", Value: "$PATH"}, {Name: "Y", Value: "d"}}
	if diff := cmp.Diff(want, got[0].Env.Set); diff != "" {
		t.Errorf("ENV (-want +got):\n%s", diff)
	}
	if got[1].Workdir.Path != "/h/w" {
		t.Errorf("WORKDIR: got %q, want /h/w", got[1].Workdir.Path)
	}
	if c := got[2].Copy; c.Dest != "/h/" || c.Content[0].Data != "/bin \"q\"\n" {
		t.Errorf("COPY: got %+v", c)
	}
}

func TestUnquote(t *testing.T) {
	words := []string{"/app", "a b", "it's", "$HOME", "", `back\slash`, "*"}
	if diff := cmp.Diff(words, dockerfile.Unquote("exec "+dockerfile.Quote(words))); diff != "" {
		t.Errorf("Unquote (-want +got):\n%s", diff)
	}
	for _, other := range []string{"serve", "exec a; b", "exec a $B", "exec a && b"} {
		if got := dockerfile.Unquote(other); got != nil {
			t.Errorf("Unquote(%q): got %q, want nil", other, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.dockerfile")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := dockerfile.Parse(text, dockerfile.Options{Context: "ctx", Args: map[string]string{"A": "1"}})
		if err != nil {
			if fault.ReasonOf(err) != dockerfile.Reason || !strings.HasPrefix(fault.As(err).Public, "Dockerfile:") {
				t.Fatalf("Parse: %v, want %s with a line", err, dockerfile.Reason)
			}
			return
		}
		if len(p.Stages) == 0 || len(p.Stages) > plan.MaxStages {
			t.Fatalf("%d stages", len(p.Stages))
		}
		for i, s := range p.Stages {
			if s.From.Stage > i {
				t.Fatalf("stage %d is based on stage %d", i+1, s.From.Stage)
			}
			for _, step := range s.Steps {
				if step.Copy != nil && step.Copy.Stage > i {
					t.Fatalf("stage %d copies from stage %d", i+1, step.Copy.Stage)
				}
				if _, err := dockerfile.ExpandStep(step, nil); err != nil && fault.KindOf(err) == fault.Internal && step.Deferred == nil {
					t.Fatalf("ExpandStep: %v", err)
				}
			}
		}
	})
}
