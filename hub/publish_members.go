package hub

// repeatsMember reports whether an object in JSON data has a member twice; value is what
// was read of it, which has the last one of each name. The schema would be held to that,
// while another reader may take the first.
func repeatsMember(data []byte, value any) bool { return writtenMembers(data) != readMembers(value) }

// writtenMembers counts the members of all objects in data, which is valid JSON.
func writtenMembers(data []byte) (n int) {
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case ':':
			n++
		}
	}
	return n
}

// readMembers counts the members of all objects in a value.
func readMembers(value any) (n int) {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			n += readMembers(element)
		}
	case map[string]any:
		n = len(v)
		for _, member := range v {
			n += readMembers(member)
		}
	}
	return n
}
