#include "count.h"

static int is_space(unsigned char byte)
{
	return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

void count_bytes(struct count *count, const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)bytes[i];

		count->lines += byte == '\n';
		if (is_space(byte)) {
			count->in_word = 0;
		} else if (!count->in_word) {
			count->in_word = 1;
			count->words++;
		}
	}
	count->bytes += length;
}
