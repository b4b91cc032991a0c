package protocol

import (
	"encoding/json"
	"strings"
	"testing"
)

// Vectors that are not of our own making: z-base-32's specification and the
// key of all zeros.
func TestZBase32(t *testing.T) {
	for in, want := range map[string]string{"\xf0\xbf\xc7": "6n9hq", "\xd4\x7a\x04": "4t7ye", "": ""} {
		if got := zBase32.EncodeToString([]byte(in)); got != want {
			t.Errorf("%x is %q, want %q", in, got, want)
		}
	}
	if got := (NodeID{}).String(); got != strings.Repeat("y", 52) {
		t.Errorf("the key of zeros is %q", got)
	}
}

func TestNodeIDText(t *testing.T) {
	id := testNode(1)
	raw, err := json.Marshal(map[string]NodeID{"id": id})
	if err != nil || string(raw) != `{"id":"`+id.String()+`"}` {
		t.Fatalf("%s, %v", raw, err)
	}
	var back map[string]NodeID
	if err := json.Unmarshal(raw, &back); err != nil || back["id"] != id {
		t.Errorf("read back as %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"id":"alice"}`), &back); err == nil {
		t.Error("alice is a node")
	}
	if s := id.Short(); len(s) != 8 || !strings.HasPrefix(id.String(), s) {
		t.Errorf("short is %q", s)
	}
}

func TestNodeIDLess(t *testing.T) {
	a, b := NodeID{0, 1}, NodeID{1, 0}
	if !a.Less(b) || b.Less(a) || a.Less(a) {
		t.Error("nodes are not ordered by their bytes")
	}
}

// A tag of one direction, link or app is none of another.
func TestTagsDiffer(t *testing.T) {
	other := App("native", []byte("chess"), nil)
	tags := map[[TagSize]byte]bool{
		MeshApp.Tag([]byte{1}, Dialler): true, MeshApp.Tag([]byte{1}, Responder): true,
		MeshApp.Tag([]byte{2}, Dialler): true, other.Tag([]byte{1}, Dialler): true,
	}
	if len(tags) != 4 {
		t.Errorf("%d different tags, want 4", len(tags))
	}
}

func TestParseMemberHashSize(t *testing.T) {
	for _, n := range []int{0, 7, 9} {
		if _, ok := ParseMemberHash(make([]byte, n)); ok {
			t.Errorf("%d bytes are a member hash", n)
		}
	}
}

func TestErrors(t *testing.T) {
	if got := CodeRefused.String(); got != "refused" {
		t.Errorf("the last code is %q", got)
	}
	if got := Code(99).String(); got != "code_99" {
		t.Errorf("an unknown code is %q", got)
	}
	var err error = Errorf(CodeFull, "%d peers", 7)
	if err.Error() != "7 peers" {
		t.Error(err)
	}
}
