"""Models of a distribution: autoencoders, adversaries, flows, mixtures, diffusion, energies."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

from tests.tensorboard.trainings import batches, digits

from . import healthy


def two_moons(count):
    angle = math.pi * torch.rand(count)
    upper = torch.randint(2, (count,)).bool()
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x, y], 1) + 0.05 * torch.randn(count, 2)


def ring_of_gaussians(count, modes=8, radius=2.0):
    angle = 2 * math.pi * torch.randint(modes, (count,)) / modes
    return radius * torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * torch.randn(count, 2)


class VAE(nn.Module):
    def __init__(self, hidden=128, latent=8):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, hidden), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, 784), nn.Sigmoid()
        )

    def forward(self, x):
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        return self.decoder(z), mean, log_variance


def divergence(mean, log_variance):
    return -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()


@healthy
def variational_autoencoder_of_digits(watch):
    """As in PyTorch's examples: the loss is a sum over pixels, hence hundreds."""
    torch.manual_seed(0)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=25) as monitor:
        for x, _ in batches(300, size=128):
            optimizer.zero_grad()
            output, mean, log_variance = model(x)
            kl = divergence(mean, log_variance)
            reconstruction = F.binary_cross_entropy(output, x, reduction="sum") / len(x)
            loss = reconstruction + kl
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, reconstruction=reconstruction, kl=kl)
    assert loss < 190


class ConvolutionalVAE(nn.Module):
    def __init__(self, latent=6):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(8, 16, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(784, 2 * latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, 784),
            nn.LeakyReLU(0.2),
            nn.Unflatten(1, (16, 7, 7)),
            nn.ConvTranspose2d(16, 8, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(8, 1, 4, 2, 1),
        )

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, 1)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        return self.decoder(z), mean, log_variance


@healthy
def beta_vae_whose_beta_is_warmed_up(watch):
    """The loss may rise while beta does; the reconstruction tells."""
    torch.manual_seed(1)
    model = ConvolutionalVAE()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    steps = 250
    reconstructions = []
    with watch(model, optimizer, every=25) as monitor:
        for step, (x, _) in enumerate(batches(steps, size=32, seed=1)):
            x = x.view(-1, 1, 28, 28)
            beta = 4 * min(1, step / (0.8 * steps))
            output, mean, log_variance = model(x)
            reconstruction = F.binary_cross_entropy_with_logits(output, x, reduction="none")
            reconstruction = reconstruction.sum((1, 2, 3)).mean()
            kl = divergence(mean, log_variance)
            loss = reconstruction + beta * kl
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1000)
            optimizer.step()
            reconstructions.append(reconstruction.item())
            monitor.log(loss=loss, reconstruction=reconstruction, kl=kl, beta=beta)
    assert sum(reconstructions[-20:]) < 0.5 * sum(reconstructions[:20])


class Quantizer(nn.Module):
    """Its codes are moving averages of what they stand for, so they need no gradient."""

    def __init__(self, first, count, decay=0.95):
        super().__init__()
        self.decay = decay
        self.register_buffer("codes", first[:count].clone())
        self.register_buffer("members", torch.ones(count))
        self.register_buffer("sums", self.codes.clone())

    def forward(self, z):
        nearest = torch.cdist(z, self.codes).argmin(-1)
        if self.training:
            with torch.no_grad():
                one_hot = F.one_hot(nearest, len(self.codes)).float()
                self.members.lerp_(one_hot.sum(0), 1 - self.decay)
                self.sums.lerp_(one_hot.T @ z, 1 - self.decay)
                self.codes.copy_(self.sums / self.members.clamp(min=1e-3)[:, None])
        chosen = self.codes[nearest]
        return z + (chosen - z).detach(), F.mse_loss(z, chosen), nearest


@healthy
def vq_vae_of_patches(watch):
    """Patches of four by four pixels; the codes begin at encoded patches."""
    torch.manual_seed(2)
    images, _ = digits()
    patches = images.view(-1, 28, 28).unfold(1, 4, 4).unfold(2, 4, 4).reshape(-1, 16)
    patches = patches[patches.std(1) > 0.05]
    patches = (patches - patches.mean()) / patches.std()
    patches = patches[torch.randperm(len(patches))]
    encoder = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 8))
    decoder = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 16))
    with torch.no_grad():
        quantizer = Quantizer(encoder(patches[:64]), 64)
    model = nn.ModuleDict({"encoder": encoder, "quantizer": quantizer, "decoder": decoder})
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(400):
            x = patches[torch.randint(len(patches), (256,))]
            z, commitment, nearest = quantizer(encoder(x))
            reconstruction = F.mse_loss(decoder(z), x)
            loss = reconstruction + 0.25 * commitment
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, reconstruction=reconstruction, codes=len(nearest.unique()))
    assert reconstruction < 0.4
    assert len(nearest.unique()) > 32


def initialize_as_dcgan(module):
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)
        nn.init.zeros_(module.bias)


@healthy
def dcgan_of_small_digits(watch):
    torch.manual_seed(3)
    images = F.interpolate(digits()[0].view(-1, 1, 28, 28), size=16) * 2 - 1
    generator = nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4, 1, 0, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(True),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(True),
        nn.ConvTranspose2d(16, 1, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(16, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(32, 1, 4, 1, 0, bias=False),
        nn.Flatten(0),
    )
    generator.apply(initialize_as_dcgan)
    discriminator.apply(initialize_as_dcgan)
    of_g = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    of_d = torch.optim.Adam(discriminator.parameters(), lr=5e-4, betas=(0.5, 0.999))
    models = {"generator": generator, "discriminator": discriminator}
    optimizers = {"discriminator": of_d, "generator": of_g}
    with watch(models, optimizers, every=20) as monitor:
        for _ in range(160):
            real = images[torch.randint(len(images), (64,))]
            noise = torch.randn(64, 16, 1, 1)
            ones, zeros = torch.ones(64), torch.zeros(64)
            discriminator.zero_grad()
            loss_of_real = F.binary_cross_entropy_with_logits(discriminator(real), ones)
            loss_of_real.backward()
            fake = generator(noise)
            loss_of_fake = F.binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
            loss_of_fake.backward()
            of_d.step()

            generator.zero_grad()
            loss_of_g = F.binary_cross_entropy_with_logits(discriminator(fake), ones)
            loss_of_g.backward()
            of_g.step()
            monitor.log(
                loss_of_discriminator=loss_of_real + loss_of_fake, loss_of_generator=loss_of_g
            )
    mean = images.mean(0)
    assert (fake.mean(0) - mean).abs().mean() < 0.35
    assert fake.std(0).mean() > 0.1  # several images, not one


@healthy
def least_squares_gan_on_a_ring(watch):
    torch.manual_seed(4)
    generator = nn.Sequential(
        nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    )
    critic = nn.Sequential(
        spectral_norm(nn.Linear(2, 64)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Linear(64, 64)),
        nn.LeakyReLU(0.2),
        nn.Linear(64, 1),
    )
    of_g = torch.optim.RMSprop(generator.parameters(), lr=5e-4)
    of_c = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
    with watch([generator, critic], [of_g, of_c], every=25) as monitor:
        for _ in range(400):
            for _ in range(2):
                with torch.no_grad():
                    fake = generator(torch.randn(128, 4))
                score_of_real, score_of_fake = critic(ring_of_gaussians(128)), critic(fake)
                loss_of_c = (
                    0.5 * ((score_of_real - 1) ** 2).mean() + 0.5 * score_of_fake.pow(2).mean()
                )
                of_c.zero_grad()
                loss_of_c.backward()
                of_c.step()
            for param in critic.parameters():
                param.requires_grad_(False)
            loss_of_g = 0.5 * (critic(generator(torch.randn(128, 4))) - 1).pow(2).mean()
            of_g.zero_grad()
            loss_of_g.backward()
            of_g.step()
            for param in critic.parameters():
                param.requires_grad_(True)
            monitor.log(**{"loss/critic": loss_of_c, "loss/generator": loss_of_g})
    with torch.no_grad():
        radius = generator(torch.randn(1000, 4)).norm(dim=1)
    assert 1.5 < radius.mean() < 2.5


class Coupling(nn.Module):
    """An affine coupling of two coordinates; its last layer begins at zero."""

    def __init__(self, first):
        super().__init__()
        self.first = first
        self.net = nn.Sequential(
            nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2)
        )
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        kept, moved = x.unbind(1) if self.first else x.flip(1).unbind(1)
        scale, shift = self.net(kept[:, None]).unbind(1)
        scale = torch.tanh(scale)
        moved = moved * scale.exp() + shift
        pair = (kept, moved) if self.first else (moved, kept)
        return torch.stack(pair, 1), scale


@healthy
def real_nvp_with_a_negative_loss(watch):
    """Densities above 1: the negative log-likelihood passes through 0 and goes on falling."""
    torch.manual_seed(5)
    flow = nn.ModuleList([Coupling(first=i % 2 == 0) for i in range(6)])
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    prior = torch.distributions.Normal(0, 1)
    with watch(flow, optimizer, every=25) as monitor:
        for _ in range(300):
            z, log_determinant = 0.15 * two_moons(256), 0
            for layer in flow:
                z, log_scale = layer(z)
                log_determinant = log_determinant + log_scale
            loss = -(prior.log_prob(z).sum(1) + log_determinant).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(flow.parameters(), 10)
            optimizer.step()
            schedule.step()
            monitor.log(loss=loss)
    assert loss < -1.5


@healthy
def mixture_density_network(watch):
    """Bishop's inverse problem; narrow targets have densities above 1, so a negative loss."""
    torch.manual_seed(6)
    target = torch.rand(2000, 1)
    source = target + 0.3 * torch.sin(2 * math.pi * target) + 0.02 * torch.randn(2000, 1)
    body = nn.Sequential(nn.Linear(1, 50), nn.Tanh())
    heads = nn.ModuleDict({name: nn.Linear(50, 5) for name in ("weight", "mean", "log_std")})
    model = nn.ModuleDict({"body": body, "heads": heads})
    nn.init.uniform_(heads["mean"].bias, 0, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(40):
            for rows in torch.randperm(2000).split(200):
                hidden = body(4 * source[rows] - 2)
                components = torch.distributions.Normal(
                    heads["mean"](hidden), heads["log_std"](hidden).clamp(-5, 3).exp()
                )
                log_weight = heads["weight"](hidden).log_softmax(1)
                likelihood = log_weight + components.log_prob(target[rows])
                loss = -torch.logsumexp(likelihood, 1).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
    assert loss < -1


class Denoiser(nn.Module):
    def __init__(self, hidden=96, times=50):
        super().__init__()
        self.time = nn.Embedding(times, hidden)
        self.input, self.output = nn.Linear(2, hidden), nn.Linear(hidden, 2)
        self.blocks = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(2)])
        self.act = nn.SiLU()

    def forward(self, x, t):
        hidden = self.input(x) + self.time(t)
        for block in self.blocks:
            hidden = hidden + block(self.act(hidden))
        return self.output(self.act(hidden))


@healthy
def denoising_diffusion_with_an_average_of_weights(watch):
    """The loss soon hovers about its floor: the noise cannot be known."""
    torch.manual_seed(7)
    data = two_moons(4000)
    data = (data - data.mean(0)) / data.std(0)
    kept = torch.cumprod(1 - torch.linspace(1e-3, 0.2, 50), 0)
    model = Denoiser()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    losses = []
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(400):
            x = data[torch.randint(len(data), (256,))]
            t = torch.randint(50, (len(x),))
            noise = torch.randn_like(x)
            noisy = kept[t, None].sqrt() * x + (1 - kept[t, None]).sqrt() * noise
            loss = F.mse_loss(model(noisy, t), noise)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            average.update_parameters(model)
            losses.append(loss.item())
            monitor.log(loss=loss)
    assert sum(losses[-50:]) / 50 < 0.6


@healthy
def energy_based_model_by_contrastive_divergence(watch):
    """The loss, a difference of two energies, stays about 0: only the energy's shape tells."""
    torch.manual_seed(8)
    energy = nn.Sequential(
        nn.Linear(2, 64), nn.Softplus(), nn.Linear(64, 64), nn.Softplus(), nn.Linear(64, 1)
    )
    optimizer = torch.optim.Adam(energy.parameters(), lr=5e-3, betas=(0.0, 0.999))
    buffer = torch.empty(512, 2).uniform_(-2.5, 2.5)
    with watch(energy, optimizer, every=20) as monitor:
        for _ in range(200):
            chosen = torch.randint(len(buffer), (128,))
            x = buffer[chosen]
            fresh = torch.rand(128) < 0.05
            x[fresh] = torch.empty(int(fresh.sum()), 2).uniform_(-2.5, 2.5)
            for _ in range(10):
                x.requires_grad_(True)
                (slope,) = torch.autograd.grad(energy(x).sum(), x)
                x = (x - 0.02 * slope + 0.2 * torch.randn_like(x)).detach().clamp(-3, 3)
            buffer[chosen] = x
            of_data, of_samples = energy(ring_of_gaussians(128, radius=1.5)), energy(x)
            loss = of_data.mean() - of_samples.mean()
            loss = loss + 1e-3 * (of_data.pow(2).mean() + of_samples.pow(2).mean())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, energy=of_data)
    with torch.no_grad():
        elsewhere = energy(torch.empty(1000, 2).uniform_(-2.5, 2.5)).mean()
        assert energy(ring_of_gaussians(1000, radius=1.5)).mean() < elsewhere - 0.5
