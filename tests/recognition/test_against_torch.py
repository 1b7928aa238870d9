"""recognition.conversion against torch and onnx themselves: the same random weights give the same embeddings."""
import numpy as np
import pytest
import tensorflow as tf

from engine.checkpoints import set_values
from iresnet_files import BLOCKS
from recognition import networks, pretrained
from recognition.conversion import published

torch = pytest.importorskip("torch", reason="torch is not installed")
nn = torch.nn
tf1 = tf.compat.v1
SIZE = 48                               # pixels


class Residual(nn.Module):
    """A block of arcface_torch's networks."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, filters, 3, 1, 1, bias=False)
        self.bn2, self.prelu = nn.BatchNorm2d(filters), nn.PReLU(filters)
        self.conv2, self.bn3 = nn.Conv2d(filters, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters)
        self.downsample = nn.Sequential(nn.Conv2d(channels, filters, 1, stride, bias=False),
                                        nn.BatchNorm2d(filters)) if stride == 2 else nn.Identity()

    def forward(self, x):
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(y)) + self.downsample(x)


class ArcFaceNet(nn.Module):
    """A network in arcface_torch's layout."""

    def __init__(self, blocks, filters, embedding_size, size):
        super().__init__()
        self.conv1 = nn.Conv2d(3, filters, 3, 1, 1, bias=False)
        self.bn1, self.prelu, channels = nn.BatchNorm2d(filters), nn.PReLU(filters), filters
        for stage, count in enumerate(blocks):
            layers = [Residual(channels if block == 0 else filters << stage, filters << stage, 2 if block == 0 else 1)
                      for block in range(count)]
            channels = filters << stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.bn2, self.fc = nn.BatchNorm2d(channels), nn.Linear(channels * (-(-size // 16)) ** 2, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.prelu(self.bn1(self.conv1(x)))))))
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


class Excitation(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, channels):
        super().__init__()
        squeezed = max(channels // 16, 1)
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1, bias=False), nn.Conv2d(squeezed, channels, 1, bias=False)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Numbered(nn.Module):
    """A block of AdaFace's networks, or with squeeze-and-excitation of InsightFace_Pytorch's."""

    def __init__(self, channels, filters, stride, excited):
        super().__init__()
        self.shortcut_layer = nn.MaxPool2d(1, stride) if channels == filters else nn.Sequential(
            nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))
        middle = [] if excited else [nn.BatchNorm2d(filters)]
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(channels), nn.Conv2d(channels, filters, 3, 1, 1, bias=False), *middle, nn.PReLU(filters),
            nn.Conv2d(filters, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters),
            *([Excitation(filters)] if excited else []))

    def forward(self, x):
        return self.shortcut_layer(x) + self.res_layer(x)


class NumberedNet(nn.Module):
    """A network in AdaFace's layout, or with squeeze-and-excitation in InsightFace_Pytorch's."""

    def __init__(self, blocks, filters, embedding_size, size, excited):
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters),
                                         nn.PReLU(filters))
        body, channels = [], filters
        for stage, count in enumerate(blocks):
            for block in range(count):
                body.append(Numbered(channels, filters << stage, 2 if block == 0 else 1, excited))
                channels = filters << stage
        self.body = nn.Sequential(*body)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(channels), nn.Dropout(.4), nn.Flatten(),
            nn.Linear(channels * (-(-size // 16)) ** 2, embedding_size), nn.BatchNorm1d(embedding_size, affine=excited))

    def forward(self, x):
        return self.output_layer(self.body(self.input_layer(x)))


def randomised(network):
    """The network as after a training: no batch norm is trivial."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, .1)
            module.running_var.uniform_(.5, 1.5)
            if module.affine:
                module.weight.data.uniform_(.5, 1.5)
                module.bias.data.normal_(0, .1)
        elif isinstance(module, nn.PReLU):
            module.weight.data.uniform_(.1, .4)
    return network.eval()


def difference(network, path, folder, size=SIZE, bgr=False):
    """The largest difference of an embedding's numbers, between torch's and those of the file `path` converted."""
    pretrained.write_converted(published.read(str(path)), str(folder))
    weights = pretrained.read(str(folder), "--w")
    assert weights.standardization == "arcface"
    inputs = np.random.default_rng(0).uniform(-1, 1, [2, size, size, 3]).astype(np.float32)
    with torch.no_grad():
        right = network(torch.tensor((inputs[..., ::-1] if bgr else inputs).transpose(0, 3, 1, 2).copy())).numpy()
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)
        images = tf1.placeholder(tf.float32, inputs.shape)
        embeddings = networks.embed(images, weights.architecture)[1]
        variables = tf1.global_variables()
        values = pretrained.values_for(weights, variables, "--w")
        set_values(session, {variable: values[variable.op.name] for variable in variables})
        found = session.run(embeddings, {images: inputs})
    largest = np.abs(found - right / np.linalg.norm(right, axis=1, keepdims=True)).max()
    print(f"{network.__class__.__name__}: {largest:.2e}")
    return largest


@pytest.mark.slow
@pytest.mark.parametrize("model_def, filters", [("iresnet18", 16), ("iresnet50", 8)])
def test_a_state_dict_of_arcface_torch(tmp_path, model_def, filters):
    torch.manual_seed(0)
    network = randomised(ArcFaceNet(BLOCKS[model_def], filters, 32, SIZE))
    torch.save(network.state_dict(), tmp_path / "backbone.pth")
    assert difference(network, tmp_path / "backbone.pth", tmp_path / "out") < 1e-5


@pytest.mark.slow
def test_a_checkpoint_of_adaface(tmp_path):
    torch.manual_seed(0)
    network = randomised(NumberedNet(BLOCKS["iresnet18"], 16, 32, SIZE, excited=False))
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    saved = {"state_dict": state | {"head.kernel": torch.ones(32, 9)}, "epoch": 25, "dtype": torch.float32,
             "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": .1}]}]}
    torch.save(saved, tmp_path / "adaface.ckpt")
    assert difference(network, tmp_path / "adaface.ckpt", tmp_path / "out", bgr=True) < 1e-5


@pytest.mark.slow
def test_a_state_dict_of_ir_se50(tmp_path):
    torch.manual_seed(0)
    network = randomised(NumberedNet(BLOCKS["ir_se50"], 8, 32, SIZE, excited=True))
    torch.save(network.state_dict(), tmp_path / "ir_se50.pth", _use_new_zipfile_serialization=False)
    assert difference(network, tmp_path / "ir_se50.pth", tmp_path / "out") < 1e-5


@pytest.mark.slow
def test_an_exported_onnx_file(tmp_path):
    """Written by torch's own exporter, which folds batch norms and numbers what it folded."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    torch.manual_seed(0)
    network = randomised(ArcFaceNet(BLOCKS["iresnet18"], 16, 32, SIZE))
    path = tmp_path / "w600k.onnx"
    torch.onnx.export(network, torch.zeros(1, 3, SIZE, SIZE), str(path), dynamo=False, opset_version=11,
                      do_constant_folding=True)
    graph = onnx.load(str(path)).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("BatchNormalization") < sum(isinstance(each, (nn.BatchNorm1d, nn.BatchNorm2d))
                                                   for each in network.modules())        # or nothing was folded
    assert difference(network, path, tmp_path / "out") < 1e-5
