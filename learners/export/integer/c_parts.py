"""The parts of the C program that are the same for every network, in C99 that is C++ too.

Names begin with `sh_`, because the file is there to be included in others' programs.
"""

HEAD = """\
/* $name, by Stillhouse: weights of $weight_bits bits, activations of $bits bits.

   $use
   An observation is $shape numbers of $dtype, the last of these sizes running fastest.$meanings

   Its memory is $ram_bytes bytes of static buffers, so it is for one thread at a time, and
   $constant_bytes bytes of constants.

   Include this file in one of yours, or compile it beside them. With -DSTILLHOUSE_MAIN it is a
   program that reads observations from stdin, raw and one after another, $size numbers of
   $dtype$order each, and prints a line for each: the action and the scores. In Python:

   subprocess.run("./student", input=observation.astype("$code").tobytes())
*/
#include <stddef.h>
#include <stdint.h>
#ifdef STILLHOUSE_MAIN
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define STILLHOUSE_OBSERVATION_SIZE $size
#define STILLHOUSE_NUM_SCORES $outputs

typedef $observation stillhouse_value; /* of an observation */
typedef $value sh_value; /* of an activation */
typedef $weight sh_weight;

int stillhouse_act(const stillhouse_value *observation, float *scores);
"""

CHOOSES = """\
stillhouse_act(observation, scores) returns the greedy action. What the policy says of each
   action, less the mean over all of them, goes to scores, which may be NULL.
"""

STEERS = """\
stillhouse_act(observation, action) writes the action, each entry within its bounds.
"""

LAYER = """\
typedef struct {
    const sh_weight *weights; /* [outputs][inputs] */
    const int32_t *biases;
    const int32_t *multipliers; /* of a sum, times 2^-shift */
    const uint8_t *shifts;
    const int16_t *curve; /* of the activation, or NULL */
    int32_t limit; /* of a sum that is scaled */
} sh_layer;
"""

SUM = """\
/* No sum leaves 32 bits: the limits of the values and the weights see to it. */
static int32_t sh_sum_$kind(const sh_layer *layer, size_t output, const $type *values,
                             size_t inputs)
{
    const sh_weight *weights = layer->weights + output * inputs;
    int32_t sum = layer->biases[output];
    size_t i;
    for (i = 0; i < inputs; i++) {
        sum += (int32_t)values[i] * weights[i];
    }
    return sum;
}
"""

SCALE = """\
/* sum * multiplier / 2^shift to the nearest, halves away from 0, within the limit. */
static int32_t sh_scale(const sh_layer *layer, size_t output, int32_t sum)
{
    const uint64_t size = (uint64_t)(sum < 0 ? -(int64_t)sum : (int64_t)sum);
    const uint8_t shift = layer->shifts[output];
    const uint64_t half = (uint64_t)1 << (shift - 1);
    const uint64_t scaled = (size * (uint64_t)layer->multipliers[output] + half) >> shift;
    const int32_t bounded = scaled > (uint64_t)layer->limit ? layer->limit : (int32_t)scaled;
    return sum < 0 ? -bounded : bounded;
}
"""

CURVE = """\
/* A curve has a point every 128 of the numbers of 16 bits, and never falls. */
static int32_t sh_bend(const int16_t *curve, int32_t value)
{
    const uint32_t place = (uint32_t)(value + 32768);
    const int32_t low = curve[place >> 7];
    const int32_t rise = curve[(place >> 7) + 1] - low;
    return low + ((rise * (int32_t)(place & 127) + 64) >> 7);
}
"""

RELU = """\
static sh_value sh_activate(const sh_layer *layer, size_t output, int32_t sum)
{
    return sum <= 0 ? (sh_value)0 : (sh_value)sh_scale(layer, output, sum);
}
"""

CURVED = """\
static sh_value sh_activate(const sh_layer *layer, size_t output, int32_t sum)
{
    return (sh_value)sh_bend(layer->curve, sh_scale(layer, output, sum));
}
"""

DENSE = """\
static void sh_dense(const sh_layer *layer, const sh_value *values, size_t inputs,
                     sh_value *results, size_t outputs)
{
    size_t output;
    for (output = 0; output < outputs; output++) {
        const int32_t sum = sh_sum_values(layer, output, values, inputs);
        results[output] = sh_activate(layer, output, sum);
    }
}
"""

SHAPE = """\
typedef struct {
    size_t channels, height, width; /* of the input */
    size_t kernel, stride;
    size_t outputs, rows, columns; /* of the result */
} sh_shape;
"""

CONVOLUTION = """\
/* Channels are whole planes, of input and result. What lies under the kernel is widened first,
   because processors multiply numbers of 16 bits faster than they widen them. */
static void sh_convolve_$kind(const sh_layer *layer, const sh_shape *shape, const $type *input,
                       sh_value *results)
{
    const size_t inputs = shape->channels * shape->kernel * shape->kernel;
    size_t row, column, channel, output, i, j;
    for (row = 0; row < shape->rows; row++) {
        for (column = 0; column < shape->columns; column++) {
            int16_t *next = sh_patch;
            for (channel = 0; channel < shape->channels; channel++) {
                for (i = 0; i < shape->kernel; i++) {
                    const size_t line = channel * shape->height + row * shape->stride + i;
                    const $type *from = input + line * shape->width + column * shape->stride;
                    for (j = 0; j < shape->kernel; j++) {
                        *next++ = from[j];
                    }
                }
            }
            for (output = 0; output < shape->outputs; output++) {
                const int32_t sum = sh_sum_patch(layer, output, sh_patch, inputs);
                results[(output * shape->rows + row) * shape->columns + column] =
                    sh_activate(layer, output, sum);
            }
        }
    }
}
"""

READ_BYTES = """\
static void sh_read(const stillhouse_value *observation, sh_value *values)
{
    size_t i;
    for (i = 0; i < $inputs; i++) {
        values[i] = observation[sh_indices[i]];
    }
}
"""

READ_FLOATS = """\
/* To steps of each entry; beyond the largest it stays there, and what is no number is 0. */
static void sh_read(const stillhouse_value *observation, sh_value *values)
{
    size_t i;
    for (i = 0; i < $inputs; i++) {
        const float distance = (observation[sh_indices[i]] - sh_center[i]) * sh_factor[i];
        int32_t parts = 0; /* 256ths of a step */
        if (distance >= $largest) {
            parts = $parts;
        } else if (distance <= -$largest) {
            parts = -$parts;
        } else if (distance == distance) {
            parts = (int32_t)distance;
        }
        values[i] = (sh_value)(parts < 0 ? -((-parts + 128) >> 8) : (parts + 128) >> 8);
    }
}
"""

ACT_CHOOSING = """\
int stillhouse_act(const stillhouse_value *observation, float *scores)
{
    int32_t best = 0;
    int action = 0;
    size_t i;
$calls
    for (i = 0; i < STILLHOUSE_NUM_SCORES; i++) {
        const int32_t sum = sh_sum_values(&sh_head, i, $values, $inputs);
        const int32_t score = sh_scale(&sh_head, i, sum);
        if (i == 0 || score > best) {
            best = score;
            action = (int)i;
        }
        if (scores != NULL) {
            scores[i] = (float)score * $scale;
        }
    }
    return action;
}
"""

ACT_STEERING = """\
int stillhouse_act(const stillhouse_value *observation, float *action)
{
    size_t i;
$calls
    for (i = 0; i < STILLHOUSE_NUM_SCORES; i++) {
        const int32_t sum = sh_sum_values(&sh_head, i, $values, $inputs);
        const int32_t scaled = sh_scale(&sh_head, i, sum);
        const float units = (float)$taken * $scale;
        const float away = sh_half_range[i] * units;
        action[i] = sh_middle[i] + away;
    }
    return 0;
}
"""

MAIN = """\
#ifdef STILLHOUSE_MAIN
/* With a number, every decision is made so many times, and the time that one takes is printed in
   the end, to stderr. Bytes that are left over and no whole observation end it with 2. */
int main(int argc, char **argv)
{
    static stillhouse_value observation[STILLHOUSE_OBSERVATION_SIZE];
    static float scores[STILLHOUSE_NUM_SCORES];
    const long repeats = argc > 1 ? strtol(argv[1], NULL, 10) : 1;
    double spent = 0.0, decisions = 0.0;
    size_t num_read;
    while ((num_read = fread(observation, 1, sizeof observation, stdin)) == sizeof observation) {
        const clock_t start = clock();
        int action = 0;
        size_t i;
        long turn;
        for (turn = 0; turn < repeats; turn++) {
            action = stillhouse_act(observation, scores);
        }
        spent += (double)(clock() - start);
        decisions += (double)repeats;
        printf("%d", action);
        for (i = 0; i < STILLHOUSE_NUM_SCORES; i++) {
            printf(" %.9g", (double)scores[i]);
        }
        printf("\\n");
    }
    if (argc > 1 && decisions > 0.0) {
        fprintf(stderr, "%.9g us a decision\\n", spent / CLOCKS_PER_SEC * 1e6 / decisions);
    }
    if (num_read > 0) {
        fprintf(stderr,
                "error: an observation has %zu bytes ($size numbers of $dtype), and %zu were "
                "left in the end\\n",
                sizeof observation, num_read);
        return 2;
    }
    return 0;
}
#endif
"""

END = """\
#ifdef __cplusplus
}
#endif
"""
