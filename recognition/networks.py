"""The identity classifier's networks by name: from standardised images to embeddings, and to scores of classes.

A network turns an image into its bottleneck, a vector of numbers; scaled to length 1, that is the image's embedding.
Embeddings of one person lie close together.
"""
import tensorflow as tf

from engine import layers
from recognition import facenet, iresnet, registry

tf1 = tf.compat.v1

# {model_def: function(images, architecture, dropout) -> bottleneck [B, E]}, called in the classifier's scope.
_BOTTLENECKS = dict.fromkeys(facenet.NETWORKS, facenet.bottleneck) | dict.fromkeys(registry.STAGES, iresnet.bottleneck)


def embed(images, architecture, dropout=None):
    """Embed standardised `images` [B, H, W, 3] with a registry.Architecture -> bottleneck, embeddings.

    Both are [B, E]; the embeddings are the bottleneck scaled to length 1. A second call uses the same variables.
    `dropout`, a layers.Dropout, acts on the pooled features before the bottleneck.
    Raises ValueError for a size that the network doesn't accept.
    """
    for size in images.shape[1:3]:
        problem = registry.image_size_problem(architecture.model_def, size)
        if problem:
            raise ValueError(problem)
    with tf1.variable_scope(architecture.scope, reuse=tf1.AUTO_REUSE):
        bottleneck = _BOTTLENECKS[architecture.model_def](images, architecture, dropout)
    return bottleneck, tf.nn.l2_normalize(bottleneck, 1, 1e-10)


def logits(bottleneck, classes, scope="Logits"):
    """Score the `bottleneck` [B, E] for each class with a dense layer, the softmax head -> [B, classes].

    The head's variables are under `scope`, which lies outside the classifier's own scope.
    """
    with tf1.variable_scope(scope, reuse=tf1.AUTO_REUSE):
        return layers.dense(bottleneck, classes, initializer=tf1.truncated_normal_initializer(stddev=0.1))


def trained_variables(scope=registry.SCOPE):
    """List the variables under `scope` that gradient descent may change: all but the moving statistics.

    The published Inception-ResNet-v1 marks its moving statistics as trainable. So their names decide.
    """
    return [variable for variable in tf1.trainable_variables()
            if variable.name.startswith(scope + "/") and "/moving_" not in variable.name]
