#ifndef COUNT_H
#define COUNT_H

#include <stddef.h>

/* What `wordcount` reports about a text. */
struct count {
	size_t lines;
	size_t words;
	size_t bytes;
	int in_word; /* the last byte seen belongs to a word that may go on */
};

/* Adds the next bytes of a text. Start with a zeroed struct; a word may be split between calls. */
void count_bytes(struct count *count, const char *bytes, size_t length);

#endif
