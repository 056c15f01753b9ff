#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "count.h"

static int count_stream(FILE *stream, const char *name)
{
	struct count count = {0};
	char buffer[1 << 16];
	size_t length;

	while ((length = fread(buffer, 1, sizeof buffer, stream)) > 0)
		count_bytes(&count, buffer, length);
	if (ferror(stream)) {
		fprintf(stderr, "wordcount: cannot read %s: %s\n", name, strerror(errno));
		return 1;
	}
	printf("%zu lines, %zu words, %zu bytes: %s\n", count.lines, count.words, count.bytes, name);
	return 0;
}

int main(int argc, char **argv)
{
	int status = 0;

	if (argc < 2)
		return count_stream(stdin, "standard input");
	for (int i = 1; i < argc; i++) {
		FILE *stream = fopen(argv[i], "rb");

		if (!stream) {
			fprintf(stderr, "wordcount: cannot open %s: %s\n", argv[i], strerror(errno));
			status = 1;
			continue;
		}
		status |= count_stream(stream, argv[i]);
		fclose(stream);
	}
	return status;
}
