package wire

import (
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Parameters of Punycode: RFC 3492 §5.
const (
	punyBase = 36
	punyTMin = 1
	punyTMax = 26
	punySkew = 38
	punyDamp = 700
	punyBias = 72
	punyN    = 128
)

// acePrefix begins labels that stand for Unicode (RFC 5890 §2.3.2.1).
const acePrefix = "xn--"

// punyThreshold is t of RFC 3492 §6.2 and §6.3.
func punyThreshold(k, bias int) int { return min(max(k-bias, punyTMin), punyTMax) }

// punyAdapt is RFC 3492 §6.1.
func punyAdapt(delta, points int, first bool) int {
	if first {
		delta /= punyDamp
	} else {
		delta /= 2
	}
	delta += delta / points
	k := 0
	for ; delta > ((punyBase-punyTMin)*punyTMax)/2; k += punyBase {
		delta /= punyBase - punyTMin
	}
	return k + (punyBase-punyTMin+1)*delta/(delta+punySkew)
}

// decodePunycode is RFC 3492 §6.2, in lower case, of what follows the prefix: at most 59
// characters, a label's rest.
func decodePunycode(s string) ([]rune, bool) {
	var out []rune
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		out, s = []rune(s[:i]), s[i+1:]
	}
	n, i, bias := punyN, 0, punyBias
	for len(s) > 0 {
		before, w := i, 1
		for k := punyBase; ; k += punyBase {
			if len(s) == 0 {
				return nil, false
			}
			digit := punyDigit(s[0])
			s = s[1:]
			if digit < 0 || digit > (math.MaxInt32-i)/w {
				return nil, false
			}
			i += digit * w
			t := punyThreshold(k, bias)
			if digit < t {
				break
			}
			if w > math.MaxInt32/(punyBase-t) {
				return nil, false
			}
			w *= punyBase - t
		}
		bias = punyAdapt(i-before, len(out)+1, before == 0)
		n += i / (len(out) + 1)
		i %= len(out) + 1
		if n > unicode.MaxRune || n < punyN || !utf8.ValidRune(rune(n)) {
			return nil, false
		}
		out = slices.Insert(out, i, rune(n))
		i++
	}
	return out, true
}

func punyDigit(c byte) int {
	switch {
	case c >= 'a' && c <= 'z':
		return int(c - 'a')
	case c >= '0' && c <= '9':
		return int(c-'0') + 26
	}
	return -1
}

// encodePunycode is RFC 3492 §6.3.
func encodePunycode(in []rune) string {
	var out []byte
	for _, r := range in {
		if r < punyN {
			out = append(out, byte(r))
		}
	}
	basic := len(out)
	done := basic
	if basic > 0 {
		out = append(out, '-')
	}
	n, delta, bias := rune(punyN), 0, punyBias
	for done < len(in) {
		next := rune(unicode.MaxRune + 1)
		for _, r := range in {
			if r >= n && r < next {
				next = r
			}
		}
		delta += int(next-n) * (done + 1)
		n = next
		for _, r := range in {
			if r < n {
				delta++
			}
			if r != n {
				continue
			}
			q := delta
			for k := punyBase; ; k += punyBase {
				t := punyThreshold(k, bias)
				if q < t {
					break
				}
				out = append(out, punyChar(t+(q-t)%(punyBase-t)))
				q = (q - t) / (punyBase - t)
			}
			out = append(out, punyChar(q))
			bias = punyAdapt(delta, done+1, done == basic)
			delta = 0
			done++
		}
		delta++
		n++
	}
	return string(out)
}

func punyChar(d int) byte {
	if d < 26 {
		return byte('a' + d)
	}
	return byte('0' + d - 26)
}

// unicodeLabel reads an ASCII label: as it is, or what its Punycode stands for. It refuses
// what no registry would give out: Punycode of nothing but ASCII, capitals, marks at the
// beginning or on letters that have a form of their own with them, signs, joiners, and any
// other spelling of the same label.
func unicodeLabel(label string) ([]rune, bool) {
	rest, ok := strings.CutPrefix(label, acePrefix)
	if !ok {
		return []rune(label), len(label) < 4 || label[2:4] != "--" // RFC 5891 §4.2.3.1
	}
	out, ok := decodePunycode(rest)
	if !ok || len(out) == 0 || encodePunycode(out) != rest {
		return nil, false
	}
	foreign := false
	for i, r := range out {
		foreign = foreign || r >= punyN
		switch {
		case r < punyN:
			if !alphanumeric(byte(r)) && r != '-' {
				return nil, false
			}
		case unicode.IsUpper(r), unicode.IsTitle(r), unicode.ToLower(r) != r:
			return nil, false
		case unicode.IsMark(r):
			if i == 0 || unicode.In(out[i-1], unicode.Latin, unicode.Greek, unicode.Cyrillic) {
				return nil, false
			}
		case !unicode.IsLetter(r) && !unicode.Is(unicode.Nd, r), compatibility(r):
			return nil, false
		}
	}
	return out, foreign && out[0] != '-' && out[len(out)-1] != '-'
}

// compatibility are letters that are other letters in another dress: full width, styled for
// mathematics, presentation forms (Unicode, chapter 23).
func compatibility(r rune) bool {
	return r >= 0x1d400 && r <= 0x1d7ff || r >= 0xff00 && r <= 0xffef || r >= 0xfb00 && r <= 0xfdff || r >= 0xfe70 && r <= 0xfefe ||
		r >= 0x2100 && r <= 0x218f || r >= 0x1f100 && r <= 0x1f1ff
}
