package wire

import (
	"mime"
	"path"
	"strings"
)

// IsFileType reports whether t can stand in a list of allowed files: an extension such
// as .pdf, a media type such as image/png, or image/* for all of a kind.
func IsFileType(t string) bool {
	if t != strings.ToLower(t) || len(t) > 100 || strings.ContainsAny(t, " ;,") {
		return false
	}
	if ext, ok := strings.CutPrefix(t, "."); ok {
		return ext != "" && !strings.ContainsAny(ext, "/*.")
	}
	kind, sub, ok := strings.Cut(t, "/")
	return ok && kind != "" && sub != "" && !strings.Contains(sub, "/") && !strings.Contains(kind, "*") && (sub == "*" || !strings.Contains(sub, "*"))
}

// FileAllowed reports whether a file of that name and media type is on a list of
// allowed types; an empty list allows every file.
func FileAllowed(types []string, name, media string) bool {
	if len(types) == 0 {
		return true
	}
	media, _, err := mime.ParseMediaType(media)
	if err != nil {
		media = ""
	}
	ext := strings.ToLower(path.Ext(name))
	kind, _, _ := strings.Cut(media, "/")
	for _, t := range types {
		if t == ext || media != "" && (t == media || t == kind+"/*") {
			return true
		}
	}
	return false
}
